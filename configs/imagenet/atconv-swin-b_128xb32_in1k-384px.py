"""ATConv-Swin-Base at 384 px, ImageNet-1K: table II of arXiv 2510.20092.

The paper does not say how it was trained. Here from scratch, as all others; Swin's own 384 px models are fine-tuned
from 224 px for 30 epochs.
"""

_base_ = './atconv-swin-b_32xb128_in1k.py'

# The resized edge keeps the ratio 256 / 224 to the crop.
sizes = dict(RandomResizedCrop=dict(scale=384), ResizeEdge=dict(scale=438), CenterCrop=dict(crop_size=384))
train_pipeline = [dict(step, **sizes.get(step['type'], {})) for step in _base_.train_pipeline]
test_pipeline = [dict(step, **sizes.get(step['type'], {})) for step in _base_.test_pipeline]
train_dataloader = dict(batch_size=32, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=32, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
