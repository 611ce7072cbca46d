"""SemanticFPN on ADE20K, 40k iterations of 32 images, with the recipe of PVT's code; a backbone is still to come.

PVT's code (github.com/whai362/PVT) doubles mmsegmentation's batch of 16 and PVT's rate of 1e-4, and halves 80k
iterations; the paper follows PVT and InLine. Weight decay is on all parameters, as there.
"""

_base_ = [
    'mmseg::_base_/models/fpn_r50.py',
    'mmseg::_base_/datasets/ade20k.py',
    'mmseg::_base_/schedules/schedule_40k.py',
    'mmseg::_base_/default_runtime.py',
]

model = dict(
    data_preprocessor=dict(size=(512, 512)),
    pretrained=None,
    backbone=dict(_delete_=True),
    decode_head=dict(num_classes=150),
)

# AlignResize of PVT's code: sides are stretched to the next multiple of 32. mmdet's PVT would leave the rest out.
align = dict(type='ResizeToMultiple', size_divisor=32)
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(2048, 512), keep_ratio=True),
    align,
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='PackSegInputs'),
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
tta_transforms = _base_.tta_pipeline[1]['transforms']
tta_pipeline = [
    _base_.tta_pipeline[0],
    dict(type='TestTimeAug', transforms=[tta_transforms[0], [align], *tta_transforms[1:]]),
]

# 8 GPUs x 4 images; --auto-scale-lr adapts to others.
auto_scale_lr = dict(enable=False, base_batch_size=32)
optim_wrapper = dict(_delete_=True, type='OptimWrapper', optimizer=dict(type='AdamW', lr=2e-4, weight_decay=1e-4))
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=40000, by_epoch=False)]
# Interrupting loses at most 4000 iterations; the last three checkpoints and the best stay.
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3, save_best='mIoU'))
