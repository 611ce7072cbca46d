"""SemanticFPN, ATConv-PVT-Tiny, ADE20K, 40k iterations of 32 images: table VI of arXiv 2510.20092, PVT's recipe."""

_base_ = './fpn_attnet-t2_8xb4-40k_ade20k-512x512.py'

pretrained_hint = (
    'no ImageNet weights of ATConv-PVT were released, so put there a classifier you trained with mmpretrain'
)

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmatconv.ATConvPVT',
        arch='tiny',
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/atconv-pvt-t_in1k.pth', prefix='backbone.'),
    ),
    neck=dict(in_channels=[64, 128, 320, 512]),
)
