"""AttNet-XS, 5.55 million parameters with its 1000-way head."""

_base_ = './attnet.py'

backbone = dict(type='mmatconv.AttNet', arch='XS')
channels = [40, 80, 160, 320]
drop_path = dict(detection=0.02, segmentation=0.02)
weights = dict(type='Pretrained', checkpoint='checkpoints/attnet-xs_in1k.pth')
