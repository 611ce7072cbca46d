"""The pooling of context-to-kernel (C2K): from a feature map to K * K positions."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops.context_to_kernel import context_pool
from ..ops.grouped import is_channels_last
from ..ops.paths import takes_triton


def flat_pool(x: Tensor, kernel_size: int) -> Tensor:
    """Adaptive average over the raster-flattened map, as the released code computes it.

    The bins are K * K overlapping runs of pixels in reading order, that is horizontal strips.

    Args:
        x: (B, C, H, W).
        kernel_size: K.

    Returns:
        (B, C, K * K).
    """
    if takes_triton(x):
        return context_pool(x, kernel_size, grid=False)
    bins = kernel_size * kernel_size
    if not is_channels_last(x):
        return F.adaptive_avg_pool1d(x.flatten(2), bins)
    # Flattening the pixels of a channels_last map for adaptive_avg_pool1d would copy it; its runs are slices already.
    pixels = x.permute(0, 2, 3, 1).flatten(1, 2)
    count = pixels.shape[1]
    runs = [pixels[:, i * count // bins : -(-(i + 1) * count // bins)].mean(1) for i in range(bins)]
    return torch.stack(runs, dim=2)


def grid_pool(x: Tensor, kernel_size: int) -> Tensor:
    """Adaptive average over a K x K grid, as equation 7 of the paper has it.

    Args:
        x: (B, C, H, W).
        kernel_size: K.

    Returns:
        (B, C, K * K), rows of the grid first.
    """
    if takes_triton(x):
        return context_pool(x, kernel_size, grid=True)
    return F.adaptive_avg_pool2d(x, kernel_size).flatten(2)


CONTEXT_POOLS = {'flat': flat_pool, 'grid': grid_pool}
