"""PVT-Medium, 44.2 million parameters with its 1000-way head."""

_base_ = './pvt.py'

backbone = dict(type='mmdet.PyramidVisionTransformer', num_layers=[3, 4, 18, 3])
channels = [64, 128, 320, 512]
drop_path = dict(detection=0.0, segmentation=0.1)
weights = dict(type='Pretrained', checkpoint='checkpoints/pvt-m_in1k.pth')
