"""ATConv-Swin-Tiny with Swin's attention and patch merging, which is Swin: tables II and III of arXiv 2510.20092."""

_base_ = '../atconv-swin-t_32xb128_in1k.py'

model = dict(backbone=dict(merging='linear', token_mixer=dict(type='WindowAttention', num_heads=[3, 6, 12, 24])))
