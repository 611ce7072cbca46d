"""AttNet-T2 with the K x K pooling of equation 7 of arXiv 2510.20092, where the released code pools strips."""

_base_ = '../attnet-t2_32xb128_in1k.py'

model = dict(backbone=dict(context_pool='grid'))
