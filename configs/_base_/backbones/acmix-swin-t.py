"""ACmix-Swin-Tiny, 28.6 million parameters with its 1000-way head: Swin with ACmix's window form."""

_base_ = './acmix.py'

backbone = dict(
    type='mmatconv.ATConvSwin',
    arch='tiny',
    merging='linear',
    token_mixer=dict(type='ACmixWindow', num_heads=[3, 6, 12, 24]),
)
channels = [96, 192, 384, 768]
# A LayerNorm on each map, as Swin has in detection.
dense = dict(out_norm=True)
drop_path = dict(detection=0.2, segmentation=0.2)
weights = dict(type='Pretrained', checkpoint='checkpoints/acmix-swin-t_in1k.pth', prefix='backbone.')
