"""Mask R-CNN on COCO for 12 epochs with Swin's recipe, which section IV-D names; a backbone is still to come."""

_base_ = ['mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py', './common.py']

model = dict(backbone=dict(_delete_=True))
optim_wrapper = dict(paramwise_cfg=dict(_delete_=True, **_base_.no_decay))
default_hooks = _base_.keep_checkpoints
