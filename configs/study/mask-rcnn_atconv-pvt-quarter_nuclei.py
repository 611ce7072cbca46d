"""Mask R-CNN on nuclei (Data Science Bowl 2018), ATConv in PVT's frame at a quarter of its width, padding masked.

The training is short: compare with all three seeds, not with this one.
"""

_base_ = '_base_/mask-rcnn_pvt-quarter_nuclei-long.py'

model = dict(backbone=dict(token_mixer=dict(type='ATConv'), mask_padding=True))
optim_wrapper = dict(optimizer=dict(lr=2.0e-3))
randomness = dict(seed=2)
