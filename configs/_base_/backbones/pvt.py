"""What mmdet's PVT of every size has in a detector or segmentor: the baseline of tables IV and VI."""

pretrained_hint = (
    'download pvt_tiny.pth, pvt_small.pth, pvt_medium.pth or pvt_large.pth from release v2 of github.com/whai362/PVT '
    'and put it there under this name'
)
# The files of the sizes have the stochastic depth of PVT's code, where pvt_medium and pvt_large have none in detection.
dense = dict(out_indices=(0, 1, 2, 3))
