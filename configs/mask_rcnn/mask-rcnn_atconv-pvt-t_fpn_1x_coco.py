"""Mask R-CNN, ATConv-PVT-Tiny, COCO, 1x schedule: table IV of arXiv 2510.20092, with PVT's recipe."""

_base_ = './mask-rcnn_attnet-t2_fpn_1x_coco.py'

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

optim_wrapper = dict(optimizer=dict(lr=2e-4, weight_decay=1e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=12, by_epoch=True, milestones=[8, 11], gamma=0.1),
]
