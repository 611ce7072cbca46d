"""SemanticFPN on the generated shapes, PVT's frame at a quarter of its width: shapes.yml."""

_base_ = '../../quickstart/fpn_attnet-xxs_shapes.py'

data_hint = (
    'docs/study.md has the two commands that write it: the test split is a data set of its own, data/shapes_test'
)
width = 32

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmatconv.ATConvPVT',
        arch=dict(depths=(2, 2, 2, 2), dims=(16, 32, 64, 128), mlp_ratios=(8, 8, 4, 4)),
        init='live',
    ),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=width),
    decode_head=dict(in_channels=[width] * 4, channels=width),
)

train_dataloader = dict(num_workers=0)
val_dataloader = dict(num_workers=0)
test_dataloader = dict(num_workers=0, dataset=dict(data_root='data/shapes_test/ade'))

iterations = 600
train_cfg = dict(max_iters=iterations, val_interval=iterations)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=50, end=iterations, by_epoch=False),
]
# The last weights are the result: the best on the validation split would be chosen with it.
default_hooks = dict(checkpoint=dict(interval=iterations, save_best=None, save_optimizer=False))
