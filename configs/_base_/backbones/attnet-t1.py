"""AttNet-T1, 13.7 million parameters with its 1000-way head."""

_base_ = './attnet.py'

backbone = dict(type='mmatconv.AttNet', arch='T1')
channels = [48, 96, 224, 384]
drop_path = dict(detection=0.1, segmentation=0.1)
weights = dict(type='Pretrained', checkpoint='checkpoints/attnet-t1_in1k.pth')
