"""What AttNet of every size has in a detector or segmentor.

Neither paper nor code gives its stochastic depth there: the files of the sizes have the classifier's
(docs/reproduction.md).
"""

pretrained_hint = (
    'download the released AttNet weights (SharePoint folder linked from github.com/price112/Attentive-Convolution) '
    'and put them there under this name'
)
dense = dict(
    out_indices=(0, 1, 2, 3),
    # Two to four images a GPU are too few for batch statistics; mmdet keeps ResNet's the same way.
    norm_eval=True,
    # The stages end in unnormalised residual sums, as Swin's do.
    out_norm=True,
    # Without it padding changes the kernels by two fifths and half of the detections (docs/padding.md).
    mask_padding=True,
)
