"""SiT-Hybrid-XL/2 on ImageNet-1K in latents: table VIII of arXiv 2510.20092 without REPA."""

_base_ = '../_base_/generation/in1k-latents.py'

model = dict(backbone=dict(arch='XL/2', token_mixer='hybrid'))
