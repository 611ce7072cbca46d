"""ATConv-Swin-Base with Swin's attention and patch merging, which is Swin: tables II and III of arXiv 2510.20092."""

_base_ = '../atconv-swin-b_32xb128_in1k.py'

model = dict(backbone=dict(merging='linear', token_mixer=dict(type='WindowAttention', num_heads=[4, 8, 16, 32])))
