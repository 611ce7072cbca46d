"""AttNet-T2, 27.0 million parameters with its 1000-way head."""

_base_ = './attnet.py'

backbone = dict(type='mmatconv.AttNet', arch='T2')
channels = [64, 128, 288, 512]
drop_path = dict(detection=0.2, segmentation=0.2)
weights = dict(type='Pretrained', checkpoint='checkpoints/attnet-t2_in1k.pth')
