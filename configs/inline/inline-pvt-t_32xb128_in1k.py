"""InLine-PVT-Tiny, ImageNet-1K, with AttNet's recipe."""

_base_ = ['../_base_/imagenet/recipe.py', '../_base_/backbones/inline-pvt-t.py']

model = dict(backbone=_base_.backbone, head=dict(in_channels=_base_.channels[-1]))
