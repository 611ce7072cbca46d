"""Re-identification small enough for a test: the recipe of configs/retrieval on 32 pixels, with a tiny AttNet."""

_base_ = ['../../../configs/_base_/retrieval/llcm.py']

size = 32
model = dict(
    backbone=dict(
        type='mmatconv.AttNet',
        arch=dict(depths=[1, 1, 1, 1], dims=[8, 16, 24, 32], exp_rates=2),
        init='live',
    ),
    head=dict(num_classes=4, in_channels=32),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(size, size)),
    dict(type='RandomCrop', crop_size=size, padding=2),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs', meta_keys=_base_.meta_keys),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(size, size)),
    dict(type='PackInputs', meta_keys=_base_.meta_keys),
]
loader = dict(num_workers=0, pin_memory=False, persistent_workers=False)
dataset = dict(data_root='{{$PEOPLE:data/LLCM}}')
train_dataloader = dict(
    batch_size=16, sampler=dict(images=2), **loader, dataset=dict(**dataset, pipeline=train_pipeline)
)
val_dataloader = dict(batch_size=16, **loader, dataset=dict(**dataset, pipeline=test_pipeline))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=8, val_interval=4)
optim_wrapper = dict(
    _delete_=True, type='OptimWrapper', optimizer=dict(type='AdamW', lr=3e-3), clip_grad=dict(max_norm=1.0)
)
param_scheduler = None
default_hooks = dict(checkpoint=dict(interval=4))
randomness = dict(seed=0)
