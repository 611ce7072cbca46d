"""ATConv-Swin-Base with Swin's linear patch merging: the pure drop-in, not what table II counts."""

_base_ = '../atconv-swin-b_32xb128_in1k.py'

model = dict(backbone=dict(merging='linear'))
