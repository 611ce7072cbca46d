"""A tiny SiT-Hybrid on generated shapes of 16 pixels, five classes, from scratch on a CPU."""

_base_ = '../_base_/generation/flow_matching.py'

data_hint = 'python tools/dataset_tools/make_one_shapes.py data/one_shapes writes it'
iterations = 2200
model = dict(
    backbone=dict(
        arch=dict(depth=4, hidden_size=128, num_heads=4, patch_size=4),
        token_mixer='hybrid',
        input_size=16,
        in_channels=3,
        num_classes=5,
        learn_sigma=False,
        init='live',
    ),
    data_preprocessor=dict(mean=[127.5] * 3, std=[63.75] * 3, to_rgb=True),
)
train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    pin_memory=False,
    dataset=dict(
        data_root='data/one_shapes',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='ResizeEdge', scale=16, backend='pillow', interpolation='bicubic'),
            dict(type='CenterCrop', crop_size=16),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackInputs'),
        ],
    ),
)
auto_scale_lr = dict(base_batch_size=32)
train_cfg = dict(max_iters=iterations)
optim_wrapper = dict(optimizer=dict(lr=1.5e-3, betas=(0.9, 0.99)), clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=False, begin=100, end=iterations),
]
default_hooks = dict(logger=dict(interval=50), checkpoint=dict(interval=250))
custom_hooks = [dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=5e-3)]
randomness = dict(seed=0)
