"""Mask R-CNN on COCO for 12 epochs with the recipe of PVT's code (github.com/whai362/PVT); a backbone is to come.

Weight decay is on all parameters, as there.
"""

_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    'mmdet::_base_/datasets/coco_instance.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    'mmdet::_base_/default_runtime.py',
    './common.py',
]

model = dict(backbone=dict(_delete_=True))
optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=2e-4, weight_decay=1e-4))
default_hooks = _base_.keep_checkpoints
