"""AttNet-T2 with static depthwise 3x3 convolutions: table IX(b) and the first row of IX(c) of arXiv 2510.20092."""

_base_ = '../attnet-t2_32xb128_in1k.py'

model = dict(backbone=dict(token_mixer=dict(type='DepthwiseConv', kernel_size=3)))
