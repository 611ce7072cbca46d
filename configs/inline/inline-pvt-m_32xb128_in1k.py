"""InLine-PVT-Medium, ImageNet-1K, with AttNet's recipe."""

_base_ = ['../_base_/imagenet/recipe.py', '../_base_/backbones/inline-pvt-m.py']

model = dict(backbone=_base_.backbone, head=dict(in_channels=_base_.channels[-1]))
