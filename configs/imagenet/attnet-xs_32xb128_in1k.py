"""AttNet-XS, ImageNet-1K, with the strengths of the released runs/XS.txt; not in the paper."""

_base_ = ['../_base_/imagenet/light.py', '../_base_/backbones/attnet-xs.py']

model = dict(
    backbone=dict(**_base_.backbone, drop_path_rate=0.02),
    head=dict(in_channels=_base_.channels[-1]),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.1), dict(type='CutMix', alpha=1.0)]),
)
optim_wrapper = dict(optimizer=dict(weight_decay=0.025))
