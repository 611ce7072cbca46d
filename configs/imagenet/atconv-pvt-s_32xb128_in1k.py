"""ATConv-PVT-Small, ImageNet-1K: table II of arXiv 2510.20092."""

_base_ = ['../_base_/imagenet/recipe.py', '../_base_/backbones/atconv-pvt-s.py']

model = dict(backbone=_base_.backbone, head=dict(in_channels=_base_.channels[-1]))
