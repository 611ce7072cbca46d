"""SemanticFPN on ADE20K, 40k iterations of 32 images, with the recipe of PVT's code; a backbone is still to come.

PVT's code (github.com/whai362/PVT) doubles mmsegmentation's batch of 16 and PVT's rate of 1e-4, and halves 80k
iterations; the paper follows PVT and InLine.
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

# 8 GPUs x 4 images; --auto-scale-lr adapts to others.
auto_scale_lr = dict(enable=False, base_batch_size=32)
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-4, weight_decay=1e-4),
    # No decay on norms, biases, LayerScale and difference_control: all one-dimensional.
    paramwise_cfg=dict(norm_decay_mult=0.0, flat_decay_mult=0.0),
)
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=40000, by_epoch=False)]
# Interrupting loses at most 4000 iterations; the last three checkpoints and the best stay.
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3, save_best='mIoU'))
