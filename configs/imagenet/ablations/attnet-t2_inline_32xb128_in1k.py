"""AttNet-T2 with InLine attention, the heads inferred from its count: table IX(b) of arXiv 2510.20092."""

_base_ = '../attnet-t2_32xb128_in1k.py'

model = dict(backbone=dict(token_mixer=dict(type='InLineAttention', num_heads=[2, 4, 8, 16])))
