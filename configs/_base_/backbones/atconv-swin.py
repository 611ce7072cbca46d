"""What ATConv-Swin of every size has in a detector or segmentor.

The paper has no such model: the files of the sizes have the classifier's stochastic depth (docs/reproduction.md).
"""

pretrained_hint = (
    'no ImageNet weights of ATConv-Swin were released, so put there a classifier trained with configs/imagenet'
)
# A LayerNorm on each map, as Swin has in detection; two images a GPU are too few for batch statistics; docs/padding.md.
dense = dict(out_indices=(0, 1, 2, 3), norm_eval=True, out_norm=True, mask_padding=True)
