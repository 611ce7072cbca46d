"""ACmix-PVT-Small, 24.4 million parameters with its 1000-way head: PVT with ACmix, reconstructed."""

_base_ = './acmix.py'

backbone = dict(
    type='mmatconv.ATConvPVT',
    arch='small',
    token_mixer=dict(type='ACmixReduction', num_heads=[1, 2, 5, 8], sr_ratio=[8, 4, 2, 1]),
)
channels = [64, 128, 320, 512]
drop_path = dict(detection=0.1, segmentation=0.1)
weights = dict(type='Pretrained', checkpoint='checkpoints/acmix-pvt-s_in1k.pth', prefix='backbone.')
