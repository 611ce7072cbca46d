"""Cascade Mask R-CNN, AttNet-T4, COCO, 36 epochs, multi-scale: named in section IV-D, without figures."""

_base_ = ['../_base_/detection/cascade-mask-rcnn_ms-crop-3x_coco.py', '../_base_/backbones/attnet-t4.py']

model = dict(
    backbone=dict(
        **_base_.backbone,
        **_base_.dense,
        drop_path_rate=_base_.drop_path.detection,
        init_cfg=_base_.weights,
    ),
    neck=dict(in_channels=_base_.channels),
)
