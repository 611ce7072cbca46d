"""ATConv-PVT-Tiny, 10.2 million parameters with its 1000-way head."""

_base_ = './atconv-pvt.py'

backbone = dict(type='mmatconv.ATConvPVT', arch='tiny')
channels = [64, 128, 320, 512]
drop_path = dict(detection=0.1, segmentation=0.1)
weights = dict(type='Pretrained', checkpoint='checkpoints/atconv-pvt-t_in1k.pth', prefix='backbone.')
