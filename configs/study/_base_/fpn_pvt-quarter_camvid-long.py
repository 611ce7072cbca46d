"""As fpn_pvt-quarter_camvid.py, for four times as many iterations: camvid-long.yml."""

_base_ = './fpn_pvt-quarter_camvid.py'

iterations = 4000
train_cfg = dict(max_iters=iterations, val_interval=iterations)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=50, end=iterations, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=iterations))
