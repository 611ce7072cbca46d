"""InLine-PVT-Medium, 37.6 million parameters with its 1000-way head."""

_base_ = './inline-pvt.py'

backbone = dict(
    type='mmatconv.ATConvPVT',
    arch=dict(depths=[3, 4, 18, 3], positions=_base_.positions, drop_path_rate=0.3),
    token_mixer=_base_.token_mixer,
)
channels = [64, 128, 320, 512]
drop_path = dict(detection=0.0, segmentation=0.1)
weights = dict(type='Pretrained', checkpoint='checkpoints/inline-pvt-m_in1k.pth', prefix='backbone.')
