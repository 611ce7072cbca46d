"""AttNet-S, ImageNet-1K, with the strengths of the released runs/S.txt; not in the paper."""

_base_ = ['../_base_/imagenet/recipe.py', '../_base_/backbones/attnet-s.py']

model = dict(
    backbone=dict(**_base_.backbone, drop_path_rate=0.05),
    head=dict(in_channels=_base_.channels[-1]),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.3), dict(type='CutMix', alpha=1.0)]),
)
train_pipeline = [step for step in _base_.train_pipeline if step['type'] != 'RandomErasing']
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(optimizer=dict(weight_decay=0.025))
