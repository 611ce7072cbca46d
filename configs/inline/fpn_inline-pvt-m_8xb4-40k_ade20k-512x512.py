"""SemanticFPN, InLine-PVT-Medium, ADE20K, 40k iterations of 32 images: not in the paper."""

_base_ = ['../_base_/segmentation/fpn_40k_ade20k.py', '../_base_/backbones/inline-pvt-m.py']

model = dict(
    backbone=dict(
        **_base_.backbone,
        **_base_.dense,
        drop_path_rate=_base_.drop_path.segmentation,
        init_cfg=_base_.weights,
    ),
    neck=dict(in_channels=_base_.channels),
)
