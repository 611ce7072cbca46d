"""Mask R-CNN, ACmix-Swin-Tiny, COCO, 12 epochs."""

_base_ = ['../_base_/detection/mask-rcnn_1x_coco.py', '../_base_/backbones/acmix-swin-t.py']

model = dict(
    backbone=dict(
        **_base_.backbone,
        **_base_.dense,
        drop_path_rate=_base_.drop_path.detection,
        init_cfg=_base_.weights,
    ),
    neck=dict(in_channels=_base_.channels),
)
# As Swin has it: position biases are not decayed.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'relative_position_bias_table': dict(decay_mult=0.0)}))
