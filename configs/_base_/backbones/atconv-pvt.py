"""What ATConv-PVT of every size has in a detector or segmentor."""

pretrained_hint = (
    'no ImageNet weights of ATConv-PVT were released, so put there a classifier trained with configs/imagenet'
)
# The stochastic depth of PVT's detection and segmentation code, the same for all sizes; docs/padding.md.
dense = dict(out_indices=(0, 1, 2, 3), drop_path_rate=0.1, mask_padding=True)
