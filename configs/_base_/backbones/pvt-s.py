"""PVT-Small, 24.5 million parameters with its 1000-way head."""

_base_ = './pvt.py'

backbone = dict(type='mmdet.PyramidVisionTransformer', num_layers=[3, 4, 6, 3])
channels = [64, 128, 320, 512]
drop_path = dict(detection=0.1, segmentation=0.1)
weights = dict(type='Pretrained', checkpoint='checkpoints/pvt-s_in1k.pth')
