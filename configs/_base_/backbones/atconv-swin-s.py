"""ATConv-Swin-Small, 47.6 million parameters with its 1000-way head."""

_base_ = './atconv-swin.py'

backbone = dict(type='mmatconv.ATConvSwin', arch='small')
channels = [96, 192, 384, 768]
drop_path = dict(detection=0.3, segmentation=0.3)
weights = dict(type='Pretrained', checkpoint='checkpoints/atconv-swin-s_in1k.pth', prefix='backbone.')
