"""AttNet-T3, 49.2 million parameters with its 1000-way head."""

_base_ = './attnet.py'

backbone = dict(type='mmatconv.AttNet', arch='T3')
channels = [72, 144, 320, 576]
drop_path = dict(detection=0.4, segmentation=0.4)
weights = dict(type='Pretrained', checkpoint='checkpoints/attnet-t3_in1k.pth')
