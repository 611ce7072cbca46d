"""Mask R-CNN, AttNet-T2, COCO, 1x schedule: table V of arXiv 2510.20092, with Swin's recipe for the optimizer."""

_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    'mmdet::_base_/datasets/coco_instance.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    'mmdet::_base_/default_runtime.py',
]

pretrained_hint = (
    'download the released AttNet weights (SharePoint folder linked from github.com/price112/Attentive-Convolution) '
    'and put them there under this name'
)

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmatconv.AttNet',
        arch='T2',
        out_indices=(0, 1, 2, 3),
        # Two images a GPU are too few for batch statistics; mmdet keeps ResNet's the same way.
        norm_eval=True,
        # The stages end in unnormalised residual sums, as Swin's do.
        out_norm=True,
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/attnet-t2_in1k.pth'),
    ),
    neck=dict(in_channels=[64, 128, 288, 512]),
)

# 8 GPUs x 2 images; --auto-scale-lr adapts to others.
auto_scale_lr = dict(enable=False, base_batch_size=16)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    # No decay on norms, biases, LayerScale and difference_control: all one-dimensional.
    paramwise_cfg=dict(norm_decay_mult=0.0, flat_decay_mult=0.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', begin=0, end=12, by_epoch=True, milestones=[8, 11], gamma=0.1),
]
# Interrupting loses at most an epoch; the last three checkpoints and the best stay.
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3, save_best='coco/segm_mAP'))
