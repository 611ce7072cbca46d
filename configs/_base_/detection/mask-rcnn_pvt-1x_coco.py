"""Mask R-CNN on COCO for 12 epochs with the recipe of PVT's code (github.com/whai362/PVT); a backbone is to come.

That code trains PVT-Large with 8 images instead of 16 and the rate divided by 1.4, which is the same recipe.
"""

_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    'mmdet::_base_/datasets/coco_instance.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    'mmdet::_base_/default_runtime.py',
    './common.py',
]

model = dict(backbone=dict(_delete_=True))
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=2e-4, weight_decay=1e-4), paramwise_cfg=_base_.no_decay
)
default_hooks = _base_.keep_checkpoints
