"""AttNet-T2 with static depthwise 7x7 convolutions: table IX(b) of arXiv 2510.20092."""

_base_ = '../attnet-t2_32xb128_in1k.py'

model = dict(backbone=dict(token_mixer=dict(type='DepthwiseConv', kernel_size=7)))
