"""What transformers with ACmix have in a detector or segmentor."""

pretrained_hint = (
    'no ImageNet weights of ACmix were released under the names used here, so put there a classifier trained with '
    'configs/acmix'
)
# A LayerNorm on each map, as Swin has in detection; docs/padding.md.
dense = dict(out_indices=(0, 1, 2, 3), out_norm=True, mask_padding=True)
