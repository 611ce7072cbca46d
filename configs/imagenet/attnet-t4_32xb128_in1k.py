"""AttNet-T4, ImageNet-1K: table III of arXiv 2510.20092, with the strengths of the released runs/T4.txt."""

_base_ = ['../_base_/imagenet/recipe.py', '../_base_/backbones/attnet-t4.py']

model = dict(backbone=_base_.backbone, head=dict(in_channels=_base_.channels[-1]))
