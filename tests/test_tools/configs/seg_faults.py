"""Random crops and flips, EMA, and a checkpoint every other iteration."""

_base_ = 'seg.py'

custom_imports = dict(imports=['faults'])
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='RandomResize', scale=(96, 96), ratio_range=(0.7, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(64, 64)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
train_cfg = dict(max_iters=10, val_interval=100)
val_cfg = None
val_dataloader = None
val_evaluator = None
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1),
    checkpoint=dict(by_epoch=False, interval=2, max_keep_ckpts=2, save_best=None),
)
log_processor = dict(by_epoch=False, window_size=1)
custom_hooks = [dict(type='EMAHook', momentum=0.1), dict(type='FaultHook')]
