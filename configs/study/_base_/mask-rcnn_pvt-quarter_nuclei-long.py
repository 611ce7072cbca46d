"""As mask-rcnn_pvt-quarter_nuclei.py, for twice as many iterations: nuclei-long.yml."""

_base_ = './mask-rcnn_pvt-quarter_nuclei.py'

iterations = 1000
train_cfg = dict(max_iters=iterations, val_interval=iterations)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=50, end=iterations, T_max=iterations - 50),
]
default_hooks = dict(checkpoint=dict(interval=iterations))
