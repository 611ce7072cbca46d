"""Mask R-CNN, InLine-PVT-Medium, COCO, 12 epochs, PVT's recipe: table IV of arXiv 2510.20092."""

_base_ = ['../_base_/detection/mask-rcnn_pvt-1x_coco.py', '../_base_/backbones/inline-pvt-m.py']

model = dict(
    backbone=dict(
        **_base_.backbone,
        **_base_.dense,
        drop_path_rate=_base_.drop_path.detection,
        init_cfg=_base_.weights,
    ),
    neck=dict(in_channels=_base_.channels),
)
