"""SemanticFPN, InLine-PVT-Tiny, ADE20K, 40k iterations of 32 images: table VI of arXiv 2510.20092."""

_base_ = ['../_base_/segmentation/fpn_40k_ade20k.py', '../_base_/backbones/inline-pvt-t.py']

model = dict(
    backbone=dict(
        **_base_.backbone,
        **_base_.dense,
        drop_path_rate=_base_.drop_path.segmentation,
        init_cfg=_base_.weights,
    ),
    neck=dict(in_channels=_base_.channels),
)
