"""PVT-Tiny, 13.2 million parameters with its 1000-way head."""

_base_ = './pvt.py'

backbone = dict(type='mmdet.PyramidVisionTransformer', num_layers=[2, 2, 2, 2])
channels = [64, 128, 320, 512]
drop_path = dict(detection=0.1, segmentation=0.1)
weights = dict(type='Pretrained', checkpoint='checkpoints/pvt-t_in1k.pth')
