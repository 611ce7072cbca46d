"""The pooling of context-to-kernel (C2K): from a feature map to K * K positions."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops.grouped import is_channels_last
from ..ops.tracing import is_traced


def flat_pool(x: Tensor, kernel_size: int) -> Tensor:
    """Adaptive average over the raster-flattened map, as the released code computes it.

    The bins are K * K overlapping runs of pixels in reading order, that is horizontal strips.

    Args:
        x: (B, C, H, W).
        kernel_size: K.

    Returns:
        (B, C, K * K).
    """
    bins = kernel_size * kernel_size
    if is_traced():
        return _flat_pool_traced(x, bins)
    if not is_channels_last(x):
        return F.adaptive_avg_pool1d(x.flatten(2), bins)
    # Flattening the pixels of a channels_last map for adaptive_avg_pool1d would copy it; its runs are slices already.
    pixels = x.permute(0, 2, 3, 1).flatten(1, 2)
    count = pixels.shape[1]
    runs = [pixels[:, i * count // bins : -(-(i + 1) * count // bins)].mean(1) for i in range(bins)]
    return torch.stack(runs, dim=2)


def _flat_pool_traced(x: Tensor, bins: int) -> Tensor:
    """One product with the averaging weights, (B, C, H, W) -> (B, C, bins).

    Slices whose ends are formulas of H and W cost a tracer most of its time, and torch's own pooling fixes the sizes.
    """
    pixels = x.permute(0, 2, 3, 1).flatten(1, 2)
    count = pixels.shape[1]
    ends = torch.arange(bins + 1, device=x.device) * count
    first, last = ends[:-1, None] // bins, -(-ends[1:, None] // bins)
    position = torch.arange(count, device=x.device)
    inside = (position >= first) & (position < last)
    with torch.autocast(x.device.type, enabled=False):
        return (inside.to(x.dtype) / (last - first) @ pixels).transpose(1, 2)


def grid_pool(x: Tensor, kernel_size: int) -> Tensor:
    """Adaptive average over a K x K grid, as equation 7 of the paper has it.

    Args:
        x: (B, C, H, W).
        kernel_size: K.

    Returns:
        (B, C, K * K), rows of the grid first.
    """
    return F.adaptive_avg_pool2d(x, kernel_size).flatten(2)


CONTEXT_POOLS = {'flat': flat_pool, 'grid': grid_pool}
