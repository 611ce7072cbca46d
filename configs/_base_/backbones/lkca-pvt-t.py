"""LKCA in PVT-Tiny's frame, 9.5 million parameters with its 1000-way head: reconstructed.

A kernel for each of PVT's heads, of the size that an image of 224 pixels asks for.
"""

backbone = dict(
    type='mmatconv.ATConvPVT',
    arch='tiny',
    token_mixer=dict(type='LKCA', size=[56, 28, 14, 7], num_heads=[1, 2, 5, 8]),
)
channels = [64, 128, 320, 512]
drop_path = dict(detection=0.1, segmentation=0.1)
pretrained_hint = 'no ImageNet weights of LKCA were released, so put there a classifier trained with configs/lkca'
# docs/padding.md.
dense = dict(out_indices=(0, 1, 2, 3), mask_padding=True)
weights = dict(type='Pretrained', checkpoint='checkpoints/lkca-pvt-t_in1k.pth', prefix='backbone.')
