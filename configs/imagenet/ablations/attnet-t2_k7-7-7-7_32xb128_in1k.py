"""AttNet-T2 with kernels of 7, 7, 7, 7: table IX(a) of arXiv 2510.20092."""

_base_ = '../attnet-t2_32xb128_in1k.py'

model = dict(backbone=dict(token_mixer=dict(type='ATConv', kernel_size=7)))
