"""Mask R-CNN, PVT-Medium, COCO, 12 epochs: table IV of arXiv 2510.20092."""

_base_ = ['../_base_/detection/mask-rcnn_pvt-1x_coco.py', '../_base_/backbones/pvt-m.py']

model = dict(
    backbone=dict(**_base_.backbone, **_base_.dense, init_cfg=_base_.weights), neck=dict(in_channels=_base_.channels)
)
