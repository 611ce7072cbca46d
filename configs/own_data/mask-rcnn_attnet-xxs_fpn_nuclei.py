"""Mask R-CNN, AttNet-XXS, from scratch on nuclei (Data Science Bowl 2018): docs/own_data.md."""

_base_ = '../quickstart/mask-rcnn_attnet-xxs_fpn_shapes.py'

data_hint = 'docs/own_data.md says where the nuclei are and how they are converted'
data_root = 'data/nuclei/'
metainfo = dict(classes=('nucleus',), palette=[(230, 85, 60)])
num_classes = 1
# The most nuclei in an image are 375.
detections = 500

model = dict(
    # Anchors from 8 px: half of the nuclei measure less than 18 px, one in twenty less than 7 px.
    rpn_head=dict(anchor_generator=dict(scales=[2])),
    roi_head=dict(bbox_head=dict(num_classes=num_classes), mask_head=dict(num_classes=num_classes)),
    train_cfg=dict(rpn_proposal=dict(nms_pre=1000, max_per_img=detections), rcnn=dict(sampler=dict(num=128))),
    test_cfg=dict(
        rpn=dict(nms_pre=1000, max_per_img=2 * detections),
        rcnn=dict(max_per_img=detections),
    ),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomCrop', crop_size=(256, 256)),
    dict(type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    # Nothing is scaled, but mmdet's heads ask for the scale.
    dict(type='Resize', scale_factor=1.0, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(batch_size=4, dataset=dict(data_root=data_root, metainfo=metainfo, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo, pipeline=test_pipeline))
test_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/instances_test.json',
        data_prefix=dict(img='test/'),
        pipeline=test_pipeline,
    )
)
# pycocotools' overall AP counts the first 100 detections of an image whatever proposal_nums says; AP50 and AP75 count
# as many as its last number.
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json', proposal_nums=(100, 300, detections))
test_evaluator = dict(ann_file=data_root + 'annotations/instances_test.json', proposal_nums=(100, 300, detections))

epochs = 24
train_cfg = dict(max_epochs=epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=epochs, T_max=epochs, convert_to_iter_based=True),
]
