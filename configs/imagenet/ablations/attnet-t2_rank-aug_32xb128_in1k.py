"""AttNet-T2 with RankAug attention, the heads those that give its FLOPs: table IX(b) of arXiv 2510.20092."""

_base_ = '../attnet-t2_32xb128_in1k.py'

model = dict(backbone=dict(token_mixer=dict(type='RankAugAttention', num_heads=[2, 2, 4, 8])))
