"""SemanticFPN on CamVid at 192 x 144, ATConv in PVT's frame at a quarter of its width.

Not the best model of the study in docs/study.md: with depthwise 3x3 convolutions in the place of ATConv,
fpn_dw3x3-pvt-quarter_camvid, the same frame scores higher after the same training.
"""

_base_ = '_base_/fpn_pvt-quarter_camvid-long.py'

model = dict(backbone=dict(token_mixer=dict(type='ATConv')))
optim_wrapper = dict(optimizer=dict(lr=3.0e-3))
randomness = dict(seed=2)
