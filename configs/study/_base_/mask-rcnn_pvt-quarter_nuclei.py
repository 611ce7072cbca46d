"""Mask R-CNN on nuclei, PVT's frame at a quarter of its width: nuclei.yml."""

_base_ = '../../own_data/mask-rcnn_attnet-xxs_fpn_nuclei.py'

width = 32

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmatconv.ATConvPVT',
        arch=dict(depths=(2, 2, 2, 2), dims=(16, 32, 64, 128), mlp_ratios=(8, 8, 4, 4)),
        init='live',
    ),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=width),
    rpn_head=dict(in_channels=width, feat_channels=width),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=width),
        bbox_head=dict(in_channels=width, fc_out_channels=128),
        mask_roi_extractor=dict(out_channels=width),
        mask_head=dict(in_channels=width, conv_out_channels=width),
    ),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    # Crops of a batch differ in size, so that most are padded.
    dict(type='RandomCrop', crop_size=(160, 256), crop_type='absolute_range'),
    dict(type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=0)
test_dataloader = dict(num_workers=0)

iterations = 500
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=iterations, val_interval=iterations)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=50, end=iterations, T_max=iterations - 50),
]
log_processor = dict(by_epoch=False)
# The last weights are the result: the best on the validation split would be chosen with it.
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=iterations, save_best=None, save_optimizer=False))
