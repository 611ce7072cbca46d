"""Cascade Mask R-CNN on COCO for 36 epochs, multi-scale and crops; a backbone is still to come.

Heads of four convolutions and a linear layer with GIoU loss, as Swin's and CSwin's Cascade R-CNN has; mmdet states
them in its ConvNeXt config. The optimizer is Swin's.
"""

_base_ = [
    'mmdet::convnext/cascade-mask-rcnn_convnext-t-p4-w7_fpn_4conv1fc-giou_amp-ms-crop-3x_coco.py',
    './common.py',
]

custom_imports = dict(_delete_=True, imports=[])
model = dict(backbone=dict(_delete_=True))
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=_base_.no_decay,
)
default_hooks = _base_.keep_checkpoints
