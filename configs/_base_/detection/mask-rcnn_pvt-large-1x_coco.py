"""Mask R-CNN on COCO for 12 epochs as PVT's code trains PVT-Large: 8 images a step, not 16, and the rate over 1.4."""

_base_ = './mask-rcnn_pvt-1x_coco.py'

train_dataloader = dict(batch_size=1)
auto_scale_lr = dict(base_batch_size=8)
optim_wrapper = dict(optimizer=dict(lr=2e-4 / 1.4))
