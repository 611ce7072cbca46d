"""ATConv-Swin-Base, 84.2 million parameters with its 1000-way head."""

_base_ = './atconv-swin.py'

backbone = dict(type='mmatconv.ATConvSwin', arch='base')
channels = [128, 256, 512, 1024]
drop_path = dict(detection=0.5, segmentation=0.5)
weights = dict(type='Pretrained', checkpoint='checkpoints/atconv-swin-b_in1k.pth', prefix='backbone.')
