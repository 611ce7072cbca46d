"""ATConv-PVT-Large with PVT's attention, for table II: PVT without position embedding and class token."""

_base_ = '../atconv-pvt-l_32xb128_in1k.py'

model = dict(
    backbone=dict(token_mixer=dict(type='SpatialReductionAttention', num_heads=[1, 2, 5, 8], sr_ratio=[8, 4, 2, 1]))
)
