"""SemanticFPN on CamVid at two fifths of its resolution, PVT's frame at a quarter of its width: camvid.yml."""

_base_ = '../../own_data/fpn_attnet-xxs_camvid.py'

# Height and width of a training crop; test images are as large.
scale = (192, 144)
width = 32

model = dict(
    data_preprocessor=dict(size=scale[::-1]),
    backbone=dict(
        _delete_=True,
        type='mmatconv.ATConvPVT',
        arch=dict(depths=(2, 2, 2, 2), dims=(16, 32, 64, 128), mlp_ratios=(8, 8, 4, 4)),
        init='live',
    ),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=width),
    decode_head=dict(in_channels=[width] * 4, channels=width),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=scale, ratio_range=(1.0, 1.875), keep_ratio=True),
    dict(type='RandomCrop', crop_size=scale[::-1], cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(batch_size=4, num_workers=0, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=0, dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(num_workers=0, dataset=dict(pipeline=test_pipeline))

iterations = 1000
train_cfg = dict(max_iters=iterations, val_interval=iterations)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=50, end=iterations, by_epoch=False),
]
# The last weights are the result: the best on the validation split would be chosen with it.
default_hooks = dict(checkpoint=dict(interval=iterations, save_best=None, save_optimizer=False))
