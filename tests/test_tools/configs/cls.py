"""A classifier small enough for a test; the images are folders of one class each."""

_base_ = ['mmpretrain::_base_/default_runtime.py']

data_root = '{{$SHAPES:data/shapes}}/cls'

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmatconv.AttNet',
        arch=dict(depths=[1, 1, 1, 1], dims=[8, 16, 24, 32], exp_rates=2),
        gap_before_final_norm=True,
        init='live',
    ),
    head=dict(type='LinearClsHead', in_channels=32, num_classes=2, topk=(1,)),
    data_preprocessor=dict(mean=[127.0] * 3, std=[58.0] * 3, to_rgb=True, num_classes=2),
)
pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=64), dict(type='PackInputs')]
dataset = dict(type='CustomDataset', data_root=data_root, data_prefix='', pipeline=pipeline)
train_dataloader = dict(batch_size=2, num_workers=0, dataset=dataset, sampler=dict(type='DefaultSampler', shuffle=True))
val_dataloader = dict(batch_size=2, num_workers=0, dataset=dataset, sampler=dict(type='DefaultSampler', shuffle=False))
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator
train_cfg = dict(by_epoch=True, max_epochs=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-3))
randomness = dict(seed=0)
