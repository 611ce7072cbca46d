"""ImageNet-1K, 300 epochs, batch 4096, as github.com/price112/Attentive-Convolution trains AttNet-T2 (runs/T2.txt).

From that file: batch, learning rate, epochs, weight decay, MixUp, CutMix, RandAugment (rand-m9-mstd0.5-inc1), random
erasing. From the defaults of the released train.py: AdamW without decay on biases and one-dimensional parameters,
warm-up from 1e-6 over 5 epochs, cosine to 1e-6 (the paper says 1e-5), label smoothing 0.1, repeated augmentation
(timm's sampler, 3 times), EMA of 0.99995, bicubic resizing. From util/datasets.py: tests resize to 256 and crop 224.
--color-jitter has no effect there: timm leaves it out beside RandAugment, and the runs without RandAugment set it to 0.
The released code trains in mixed precision: --amp.

Adaptive gradient clipping is off: the released train.py parses 0.01, but its util/engine.py does not hand it on to the
optimizer. --cfg-options custom_hooks.1.clip=0.01 turns it on. The paper mentions neither clipping nor EMA nor repeated
augmentation. What differs from the released schedule and batch statistics is in docs/reproduction.md.

No runs of ATConv-PVT and ATConv-Swin were released. The paper has 'identical training protocols' and 'all settings
remain consistent', so they are trained in the same way, with the drop path of PVT and Swin.
"""

_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py',
    'mmpretrain::_base_/schedules/imagenet_bs1024_adamw_swin.py',
    'mmpretrain::_base_/default_runtime.py',
]

data_hint = (
    'ImageNet-1K (ILSVRC 2012) is at image-net.org after signing up; unpack it to train/ and val/ with one folder for '
    'each class'
)

model = dict(
    type='ImageClassifier',
    backbone=dict(gap_before_final_norm=True),
    neck=None,
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0),
    ),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)

dataset_type = 'mmatconv.datasets.ImageNet'
dataset = dict(type=dataset_type)
train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    pin_memory=True,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(_delete_=True, type='RepeatAugSampler', num_repeats=3),
    dataset=dataset,
)
val_dataloader = dict(batch_size=128, num_workers=8, pin_memory=True, persistent_workers=True, dataset=dataset)
test_dataloader = val_dataloader

auto_scale_lr = dict(enable=False, base_batch_size=4096)
optim_wrapper = dict(optimizer=dict(lr=4e-3, weight_decay=0.05))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6 / 4e-3, by_epoch=True, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=5, convert_to_iter_based=True),
]
# As torch does and MMEngine does not: all processes have the batch statistics of the first.
model_wrapper_cfg = dict(type='MMDistributedDataParallel', broadcast_buffers=True)

env_cfg = dict(cudnn_benchmark=True)

# Interrupting loses at most an epoch; the last three checkpoints and the best stay. Their state_dict is the EMA's.
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3, save_best='accuracy/top1'))
custom_hooks = [
    # Batch statistics are averaged too, as timm does. The EMA lags by 20000 iterations, so both are evaluated.
    dict(type='EMAHook', momentum=5e-5, update_buffers=True, evaluate_on_origin=True, priority='ABOVE_NORMAL'),
    dict(type='mmatconv.AdaptiveGradClipHook', clip=None),
]
