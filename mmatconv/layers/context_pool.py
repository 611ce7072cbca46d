"""The pooling of context-to-kernel (C2K): from a feature map to K * K positions."""

from functools import lru_cache

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
    if not is_channels_last(x):
        return F.adaptive_avg_pool1d(x.flatten(2), bins)
    # Flattening the pixels of a channels_last map for adaptive_avg_pool1d would copy it.
    pixels = x.permute(0, 2, 3, 1).flatten(1, 2)
    if not is_traced() and not (torch.is_grad_enabled() and x.requires_grad):
        count = pixels.shape[1]
        runs = [pixels[:, i * count // bins : -(-(i + 1) * count // bins)].mean(1) for i in range(bins)]
        return torch.stack(runs, dim=2)
    # The gradient of each run would be a map of its own; that of a product with the bins is one map.
    membership, length = _runs(pixels.shape[1], bins, x.dtype, x.device)
    return (torch.bmm(membership.expand(len(x), -1, -1), pixels) / length).transpose(1, 2)


def _runs(count: int, bins: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Which of ``count`` pixels lie in which run, (bins, count), and the lengths of the runs, (bins, 1)."""
    if is_traced():
        return _make_runs(count, bins, dtype, device)
    with torch.inference_mode(False):
        return _cached_runs(count, bins, dtype, device)


def _make_runs(count: int, bins: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    pixel = torch.arange(count, device=device)
    run = torch.arange(bins, device=device)[:, None]
    first, last = run * count // bins, ((run + 1) * count + bins - 1) // bins
    # A power of two that divides by about the length is exact in half precision, and no sum leaves the range of it.
    share = 2.0 ** -((count // bins).bit_length())
    return ((pixel >= first) & (pixel < last)).to(dtype) * share, ((last - first) * share).to(dtype)


_cached_runs = lru_cache(maxsize=32)(_make_runs)


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
