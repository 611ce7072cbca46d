"""Padding of a map as zeros, for the paths that convolve whole maps."""

import torch
from torch import Tensor


def zero_padding(x: Tensor, sizes: Tensor | None) -> Tensor:
    """``x`` (B, C, H, W) with zeros from the heights and widths ``sizes`` (B, 2) on; itself without sizes."""
    if sizes is None:
        return x
    rows, columns = (torch.arange(side, device=x.device) for side in x.shape[2:])
    inside = (rows < sizes[:, :1])[:, None, :, None] & (columns < sizes[:, 1:])[:, None, None, :]
    return torch.where(inside, x, 0)
