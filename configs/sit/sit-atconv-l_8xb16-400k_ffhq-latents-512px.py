"""SiT-ATConv-L/2 on FFHQ in latents, the released sit_atconv_l.txt, table VIII of arXiv 2510.20092."""

_base_ = '../_base_/generation/ffhq-latents.py'

model = dict(backbone=dict(arch='L/2', token_mixer='atconv'))
