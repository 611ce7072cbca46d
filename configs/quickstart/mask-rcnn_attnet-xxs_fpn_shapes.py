"""Mask R-CNN, AttNet-XXS, from scratch on the generated shapes: minutes on two CPU cores."""

_base_ = '../mask_rcnn/mask-rcnn_attnet-xxs_fpn_1x_coco.py'

data_hint = 'python tools/dataset_tools/make_shapes.py data/shapes --train 600 writes it'
data_root = 'data/shapes/coco/'
metainfo = dict(
    classes=('disc', 'triangle', 'rectangle', 'star', 'ring'),
    palette=[(230, 85, 60), (250, 190, 40), (70, 170, 90), (60, 120, 220), (170, 80, 200)],
)
num_classes = 5
width = 64

model = dict(
    data_preprocessor=dict(pad_size_divisor=32),
    backbone=dict(init='live', drop_path_rate=0.0, norm_eval=False, init_cfg=None),
    neck=dict(out_channels=width),
    # Anchors from 16 px, and RoIs of 56 px and more from coarser levels: shapes measure 27 to 96 px.
    rpn_head=dict(in_channels=width, feat_channels=width, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        # One sample a bin saves a tenth of a step: mmcv's RoIAlign has one thread on the CPU.
        bbox_roi_extractor=dict(out_channels=width, finest_scale=28, roi_layer=dict(sampling_ratio=1)),
        bbox_head=dict(in_channels=width, fc_out_channels=256, num_classes=num_classes),
        mask_roi_extractor=dict(out_channels=width, finest_scale=28, roi_layer=dict(sampling_ratio=1)),
        mask_head=dict(num_convs=2, in_channels=width, conv_out_channels=width, num_classes=num_classes),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=250, max_per_img=150),
        rcnn=dict(sampler=dict(num=48)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=250, max_per_img=100)),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale=(192, 192), keep_ratio=True),
    dict(type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(192, 192), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(
    batch_size=2,
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train/'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/instances_val.json',
        data_prefix=dict(img='val/'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = val_evaluator

epochs = 7
auto_scale_lr = dict(base_batch_size=4)
train_cfg = dict(max_epochs=epochs, val_interval=2)
optim_wrapper = dict(optimizer=dict(lr=1e-3), clip_grad=dict(max_norm=5))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=epochs, T_max=epochs, convert_to_iter_based=True),
]
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(save_best='coco/bbox_mAP'))
# Every process counts batch statistics of its own; without this they would validate with different ones.
custom_hooks = [dict(type='SyncBuffersHook')]
randomness = dict(seed=0)
