"""SiT-ATConv-S/2 on FFHQ in latents, the released sit_atconv_s.txt."""

_base_ = '../_base_/generation/ffhq-latents.py'

model = dict(backbone=dict(arch='S/2', token_mixer='atconv'))
