"""A SiT small enough for a test, on pixels; the images are folders of one class each."""

_base_ = ['../../../configs/_base_/generation/flow_matching.py']

model = dict(
    backbone=dict(
        arch=dict(depth=2, hidden_size=32, num_heads=2, patch_size=4),
        token_mixer='hybrid',
        input_size=(8, 12),
        in_channels=3,
        num_classes=2,
        learn_sigma=False,
    ),
    data_preprocessor=dict(mean=[127.5] * 3, std=[63.75] * 3, to_rgb=True),
)
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    pin_memory=False,
    dataset=dict(
        data_root='{{$SHAPES:data/shapes}}/cls',
        pipeline=[dict(type='LoadImageFromFile'), dict(type='Resize', scale=(12, 8)), dict(type='PackInputs')],
    ),
)
train_cfg = dict(max_iters=4)
optim_wrapper = dict(optimizer=dict(lr=1e-2))
default_hooks = dict(checkpoint=dict(interval=2), logger=dict(interval=1))
custom_hooks = [dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=0.5)]
randomness = dict(seed=0)
