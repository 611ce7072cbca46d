"""Random augmentation, drop path, EMA, data workers, no seed, and checkpoints in the middle of an epoch."""

_base_ = 'det.py'

custom_imports = dict(imports=['faults'])
model = dict(backbone=dict(drop_path_rate=0.3))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomResize', scale=[(48, 48), (80, 80)], keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(batch_size=1, num_workers=2, persistent_workers=True, dataset=dict(pipeline=train_pipeline))
train_cfg = dict(max_epochs=3, val_interval=10)
val_cfg = None
val_dataloader = None
val_evaluator = None
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=3, max_keep_ckpts=3))
custom_hooks = [dict(type='EMAHook', momentum=0.1), dict(type='FaultHook')]
param_scheduler = dict(type='CosineAnnealingLR', by_epoch=False, T_max=12)
randomness = dict(seed=None)
