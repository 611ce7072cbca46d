"""InLine-PVT-Large, 51.2 million parameters with its 1000-way head."""

_base_ = './inline-pvt.py'

backbone = dict(
    type='mmatconv.ATConvPVT',
    arch=dict(depths=[3, 8, 27, 3], positions=_base_.positions, drop_path_rate=0.3),
    token_mixer=_base_.token_mixer,
)
channels = [64, 128, 320, 512]
drop_path = dict(detection=0.0, segmentation=0.1)
weights = dict(type='Pretrained', checkpoint='checkpoints/inline-pvt-l_in1k.pth', prefix='backbone.')
