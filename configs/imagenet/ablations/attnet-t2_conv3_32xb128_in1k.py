"""AttNet-T2 with dense 3x3 convolutions as token mixer: table IX(b) of arXiv 2510.20092."""

_base_ = '../attnet-t2_32xb128_in1k.py'

model = dict(backbone=dict(token_mixer=dict(type='Conv', kernel_size=3)))
