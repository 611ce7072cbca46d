"""SemanticFPN, AttNet-XXS, from scratch on the generated shapes: minutes on two CPU cores."""

_base_ = '../sem_fpn/fpn_attnet-xxs_8xb4-40k_ade20k-512x512.py'

data_hint = 'python tools/dataset_tools/make_shapes.py data/shapes --train 600 writes it'
dataset = dict(
    _delete_=True,
    type='BaseSegDataset',
    data_root='data/shapes/ade',
    metainfo=dict(
        classes=('background', 'disc', 'triangle', 'rectangle', 'star', 'ring'),
        palette=[[96, 96, 96], [230, 85, 60], [250, 190, 40], [70, 170, 90], [60, 120, 220], [170, 80, 200]],
    ),
    img_suffix='.jpg',
    seg_map_suffix='.png',
    reduce_zero_label=True,
)
norm_cfg = dict(type='BN', requires_grad=True)
width = 64

model = dict(
    data_preprocessor=dict(size=(192, 192)),
    backbone=dict(init='live', drop_path_rate=0.0, norm_eval=False, init_cfg=None),
    neck=dict(out_channels=width),
    decode_head=dict(
        in_channels=[width] * 4, channels=width, num_classes=len(dataset['metainfo']['classes']), norm_cfg=norm_cfg
    ),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    dataset=dict(
        **dataset,
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=2,
    dataset=dict(
        **dataset,
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

iterations = 800
auto_scale_lr = dict(base_batch_size=4)
train_cfg = dict(max_iters=iterations, val_interval=200)
optim_wrapper = dict(
    optimizer=dict(lr=2e-3, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, flat_decay_mult=0.0),
    clip_grad=dict(max_norm=5),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=50, end=iterations, by_epoch=False),
]
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=200))
custom_hooks = [dict(type='SyncBuffersHook')]
randomness = dict(seed=0)
