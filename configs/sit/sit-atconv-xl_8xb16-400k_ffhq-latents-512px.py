"""SiT-ATConv-XL/2 on FFHQ in latents, the released sit_atconv_xl.txt, table VIII of arXiv 2510.20092."""

_base_ = '../_base_/generation/ffhq-latents.py'

model = dict(backbone=dict(arch='XL/2', token_mixer='atconv'))
