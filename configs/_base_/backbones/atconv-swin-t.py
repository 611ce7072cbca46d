"""ATConv-Swin-Tiny, 28.0 million parameters with its 1000-way head."""

_base_ = './atconv-swin.py'

backbone = dict(type='mmatconv.ATConvSwin', arch='tiny')
channels = [96, 192, 384, 768]
drop_path = dict(detection=0.2, segmentation=0.2)
weights = dict(type='Pretrained', checkpoint='checkpoints/atconv-swin-t_in1k.pth', prefix='backbone.')
