"""AttNet-S, 7.68 million parameters with its 1000-way head."""

_base_ = './attnet.py'

backbone = dict(type='mmatconv.AttNet', arch='S')
channels = [40, 80, 160, 320]
weights = dict(type='Pretrained', checkpoint='checkpoints/attnet-s_in1k.pth')
