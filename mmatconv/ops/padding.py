"""Which pixels of padded maps lie in their images, for what does not mask as it reads."""

from collections.abc import Sequence

import torch
from torch import Tensor


def valid_pixels(sizes: Tensor, shape: Sequence[int]) -> Tensor:
    """(B, 1, H, W), boolean: what lies within heights and widths ``sizes`` (B, 2) of maps of H and W ``shape``."""
    rows, columns = (torch.arange(side, device=sizes.device) for side in shape)
    return ((rows < sizes[:, :1])[:, :, None] & (columns < sizes[:, 1:])[:, None, :])[:, None]


def zero_padding(x: Tensor, sizes: Tensor | None) -> Tensor:
    """``x`` (B, C, H, W) with zeros from the heights and widths ``sizes`` (B, 2) on; itself without sizes."""
    return x if sizes is None else torch.where(valid_pixels(sizes, x.shape[2:]), x, 0)
