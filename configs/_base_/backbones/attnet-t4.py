"""AttNet-T4, 87.3 million parameters with its 1000-way head."""

_base_ = './attnet.py'

backbone = dict(type='mmatconv.AttNet', arch='T4')
channels = [96, 192, 384, 768]
drop_path = dict(detection=0.5, segmentation=0.5)
weights = dict(type='Pretrained', checkpoint='checkpoints/attnet-t4_in1k.pth')
