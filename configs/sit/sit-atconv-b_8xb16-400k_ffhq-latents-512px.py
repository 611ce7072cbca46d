"""SiT-ATConv-B/2 on FFHQ in latents, the released sit_atconv_b.txt, table VIII of arXiv 2510.20092."""

_base_ = '../_base_/generation/ffhq-latents.py'

model = dict(backbone=dict(arch='B/2', token_mixer='atconv'))
