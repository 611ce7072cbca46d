"""SemanticFPN, AttNet-XXS, from scratch on CamVid at about half of its resolution: docs/own_data.md."""

_base_ = '../quickstart/fpn_attnet-xxs_shapes.py'

data_hint = 'docs/own_data.md says where CamVid is and how it is converted'
dataset = dict(
    data_root='data/camvid',
    metainfo=dict(
        classes=(
            'sky',
            'building',
            'pole',
            'road',
            'pavement',
            'tree',
            'sign',
            'fence',
            'car',
            'pedestrian',
            'bicyclist',
        ),
        palette=[
            [128, 128, 128],
            [128, 0, 0],
            [192, 192, 128],
            [128, 64, 128],
            [60, 40, 222],
            [128, 128, 0],
            [192, 128, 128],
            [64, 64, 128],
            [64, 0, 128],
            [64, 64, 0],
            [0, 128, 192],
        ],
    ),
    img_suffix='.png',
    # 0 is a class, the sky; 255 is what has none.
    reduce_zero_label=False,
)
# Width and height with CamVid's ratio of 4:3, multiples of 32.
scale = (256, 192)

model = dict(
    data_preprocessor=dict(size=scale[::-1]),
    decode_head=dict(num_classes=len(dataset['metainfo']['classes'])),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=scale, ratio_range=(1.0, 1.875), keep_ratio=True),
    dict(type='RandomCrop', crop_size=scale[::-1], cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale),
    # After Resize: predictions are scaled to the labels, not labels to the predictions.
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    dataset=dict(
        **dataset, data_prefix=dict(img_path='images/train', seg_map_path='annotations/train'), pipeline=train_pipeline
    )
)
val_dataloader = dict(
    dataset=dict(
        **dataset, data_prefix=dict(img_path='images/val', seg_map_path='annotations/val'), pipeline=test_pipeline
    )
)
test_dataloader = dict(
    dataset=dict(
        **dataset, data_prefix=dict(img_path='images/test', seg_map_path='annotations/test'), pipeline=test_pipeline
    )
)

iterations = 4000
train_cfg = dict(max_iters=iterations, val_interval=500)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=50, end=iterations, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=500))
