"""AttNet-T2, ImageNet-1K: tables III and IX of arXiv 2510.20092, with the strengths of the released runs/T2.txt."""

_base_ = ['../_base_/imagenet/recipe.py', '../_base_/backbones/attnet-t2.py']

model = dict(backbone=_base_.backbone, head=dict(in_channels=_base_.channels[-1]))
