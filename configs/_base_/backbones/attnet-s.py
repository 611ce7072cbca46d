"""AttNet-S, 7.68 million parameters with its 1000-way head."""

_base_ = './attnet.py'

backbone = dict(type='mmatconv.AttNet', arch='S')
channels = [40, 80, 160, 320]
drop_path = dict(detection=0.05, segmentation=0.05)
weights = dict(type='Pretrained', checkpoint='checkpoints/attnet-s_in1k.pth')
