"""What every training of SiT shares: AdamW without decay, iterations, an average of the weights (EMA).

The model's inputs are normalised by data_preprocessor; a checkpoint's state_dict is the EMA's, which is sampled.
"""

_base_ = ['mmpretrain::_base_/default_runtime.py']

model = dict(
    type='mmatconv.FlowMatching',
    backbone=dict(type='mmatconv.SiT'),
    data_preprocessor=dict(type='ClsDataPreprocessor'),
)
train_dataloader = dict(
    pin_memory=True,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(type='CustomDataset'),
)
train_cfg = dict(type='IterBasedTrainLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.0))
log_processor = dict(by_epoch=False)
default_hooks = dict(checkpoint=dict(by_epoch=False, max_keep_ckpts=3))
custom_hooks = [dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=1e-4)]
