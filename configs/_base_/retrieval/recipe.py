"""Visible-infrared re-identification: the model's frame, transforms and schedule; data set and backbone are to come.

Section IV-F of arXiv 2510.20092 fixes pictures of 224 x 224 and weights pretrained on ImageNet-1K, and refers to the
protocol of Ye et al. (arXiv 2001.04193) for the rest, without saying which of its losses and augmentations. Here: its
baseline for two modalities (github.com/mangye16/Cross-Modal-Re-ID-baseline; with random erasing, as LLCM's code has
it): 8 identities with 4 visible and 4 infrared images each, SGD at 0.1, a tenth of it for the backbone, 10 epochs of
warm-up, a tenth after 20 and 50 epochs of 81. That code is for two streams of a ResNet-50; the backbone here is one.
"""

_base_ = ['mmpretrain::_base_/default_runtime.py']

model = dict(
    type='ImageClassifier',
    backbone=dict(gap_before_final_norm=True),
    neck=None,
    head=dict(type='mmatconv.ReIDHead', triplet=dict(type='mmatconv.BatchHardTripletLoss')),
)
data_preprocessor = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)

size = 224
meta_keys = ('img_path', 'person_id', 'camera_id', 'modality', 'track_id')
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(size, size)),
    dict(type='RandomCrop', crop_size=size, padding=10),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    # Filled with the mean, in the order of the channels before the preprocessor.
    dict(type='RandomErasing', erase_prob=0.5, mode='const', fill_color=[103.53, 116.28, 123.675]),
    dict(type='PackInputs', meta_keys=meta_keys),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(size, size)),
    dict(type='PackInputs', meta_keys=meta_keys),
]
train_dataloader = dict(
    batch_size=64,
    num_workers=8,
    pin_memory=True,
    persistent_workers=True,
    drop_last=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='mmatconv.IdentitySampler', images=4),
    dataset=dict(split='train', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=8,
    pin_memory=True,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(split='test', pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmatconv.CrossModalityMetric')
test_evaluator = val_evaluator

train_cfg = dict(by_epoch=True, max_epochs=81, val_interval=2)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(enable=False, base_batch_size=64)
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4),
    paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.1)}),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=True, begin=0, end=10),
    dict(type='MultiStepLR', milestones=[20, 50], gamma=0.1, by_epoch=True),
]
# Interrupting loses at most two epochs; the last three checkpoints and the best stay.
default_hooks = dict(checkpoint=dict(interval=2, max_keep_ckpts=3, save_best='retrieval/mAP'))
