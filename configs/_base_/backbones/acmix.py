"""What transformers with ACmix have in a detector or segmentor."""

pretrained_hint = (
    'no ImageNet weights of ACmix were released under the names used here, so put there a classifier trained with '
    'configs/acmix'
)
# docs/padding.md
dense = dict(out_indices=(0, 1, 2, 3), mask_padding=True)
