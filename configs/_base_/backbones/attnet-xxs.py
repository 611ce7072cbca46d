"""AttNet-XXS, 2.85 million parameters with its 1000-way head."""

_base_ = './attnet.py'

backbone = dict(type='mmatconv.AttNet', arch='XXS')
channels = [32, 64, 128, 240]
drop_path = dict(detection=0.0, segmentation=0.0)
weights = dict(type='Pretrained', checkpoint='checkpoints/attnet-xxs_in1k.pth')
