"""AttNet-T1, ImageNet-1K: table III of arXiv 2510.20092, with the strengths of the released runs/T1.txt.

Weight decay is that run's 0.025; section IV-C has 0.05 for all models.
"""

_base_ = ['../_base_/imagenet/recipe.py', '../_base_/backbones/attnet-t1.py']

model = dict(
    backbone=_base_.backbone,
    head=dict(in_channels=_base_.channels[-1]),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.6), dict(type='CutMix', alpha=1.0)]),
)
train_pipeline = [
    dict(step, erase_prob=0.15) if step['type'] == 'RandomErasing' else step for step in _base_.train_pipeline
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(optimizer=dict(weight_decay=0.025))
