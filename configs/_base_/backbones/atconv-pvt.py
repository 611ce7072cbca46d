"""What ATConv-PVT of every size has in a detector or segmentor."""

pretrained_hint = (
    'no ImageNet weights of ATConv-PVT were released, so put there a classifier trained with configs/imagenet'
)
# docs/padding.md. The files of the sizes have PVT's stochastic depth.
dense = dict(out_indices=(0, 1, 2, 3), mask_padding=True)
