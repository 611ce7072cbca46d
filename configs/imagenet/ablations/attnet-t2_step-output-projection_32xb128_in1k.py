"""AttNet-T2 up to the output projection: table IX(c) of arXiv 2510.20092."""

_base_ = '../attnet-t2_32xb128_in1k.py'

model = dict(backbone=dict(token_mixer=dict(type='ATConvStep', step='output_projection')))
