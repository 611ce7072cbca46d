"""SiT-ATConv-S/2 on ImageNet-1K in latents: no row of a table."""

_base_ = '../_base_/generation/in1k-latents.py'

model = dict(backbone=dict(arch='S/2', token_mixer='atconv'))
