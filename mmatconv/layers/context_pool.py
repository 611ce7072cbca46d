"""The pooling of context-to-kernel (C2K) in operations of torch: from a feature map to K * K positions."""

from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from mmatconv.layers.padding_mask import PaddingMask
from mmatconv.ops.autocast import outside_autocast
from mmatconv.ops.memory_format import is_channels_last
from mmatconv.ops.tracing import is_compiling, is_traced

# A map of this size is pooled faster by one product with all bins than run by run (measured on a CPU without gradients:
# 20 and 70 us for 8 x 8 pixels, equal at 80 x 80, half as fast from there).
FEW_ELEMENTS = 2**18


def flat_pool(x: Tensor, kernel_size: int, padding_mask: PaddingMask | None = None) -> Tensor:
    """Adaptive average over the raster-flattened map, as the released code computes it.

    The bins are K * K overlapping runs of pixels in reading order, that is horizontal strips.

    Args:
        x: (B, C, H, W).
        kernel_size: K.
        padding_mask: What of the map is padding. Default: None, nothing.

    Returns:
        (B, C, K * K).
    """
    if padding_mask is not None:
        return _pool_masked(x, padding_mask, _flat_bins, kernel_size)
    bins = kernel_size * kernel_size
    if not is_channels_last(x) and not is_compiling():
        return F.adaptive_avg_pool1d(x.flatten(2), bins)
    differentiated = torch.is_grad_enabled() and x.requires_grad
    # Flattening the pixels of a channels_last map for adaptive_avg_pool1d would copy it.
    pixels = x.permute(0, 2, 3, 1).flatten(1, 2)
    if not is_compiling() and (is_traced() or (pixels.numel() > FEW_ELEMENTS and not differentiated)):
        count = pixels.shape[1]
        runs = [pixels[:, i * count // bins : ((i + 1) * count + bins - 1) // bins].mean(1) for i in range(bins)]
        return torch.stack(runs, dim=2)
    # The gradient of each run would be a map of its own; that of a product with the bins is one map. A small map costs
    # little but calls, and this is one. And slices whose ends are formulas of H and W cost a tracer most of its time.
    membership, length = _runs(pixels, bins)
    return _average(membership.expand(len(x), -1, -1), length, pixels)


def _average(membership: Tensor, length: Tensor, pixels: Tensor) -> Tensor:
    """(B, bins, N), (B, bins, 1) or (bins, 1), and (B, N, C) -> (B, C, bins)."""
    with outside_autocast(pixels):
        return (torch.bmm(membership, pixels) / length).to(pixels.dtype).transpose(1, 2)


def _runs(pixels: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """Which pixels of (B, N, C) lie in which run, (bins, N), and the lengths of the runs, (bins, 1)."""
    key = (pixels.shape[1], bins, pixels.dtype, pixels.device)
    # Tensors made while fake tensors are at work hold no values, and must not be found by a later call.
    if is_traced() or type(pixels) is not Tensor:
        return _make_runs(*key)
    with torch.inference_mode(False):
        return _cached_runs(*key)


def _make_runs(count: int, bins: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    pixel = torch.arange(count, device=device)
    run = torch.arange(bins, device=device)[:, None]
    first, last = _bounds(run, count, bins)
    return _scaled((pixel >= first) & (pixel < last), last - first, count // bins, dtype)


_cached_runs = lru_cache(maxsize=32)(_make_runs)


def _bounds(index: Tensor, count: int | Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """First and behind the last of ``count`` pixels for each bin of an adaptive average."""
    return index * count // bins, ((index + 1) * count + bins - 1) // bins


def _scaled(members: Tensor, length: Tensor, about: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    # A power of two near one over the length is exact in half precision, and keeps sums within its range.
    share = 2.0 ** -(10 if is_traced() else about.bit_length())
    return members.to(dtype) * share, (length * share).to(torch.promote_types(dtype, torch.float32))


def grid_pool(x: Tensor, kernel_size: int, padding_mask: PaddingMask | None = None) -> Tensor:
    """Adaptive average over a K x K grid, as equation 7 of the paper has it.

    Args:
        x: (B, C, H, W).
        kernel_size: K.
        padding_mask: What of the map is padding. Default: None, nothing.

    Returns:
        (B, C, K * K), rows of the grid first.
    """
    if padding_mask is not None:
        return _pool_masked(x, padding_mask, _grid_bins, kernel_size)
    return F.adaptive_avg_pool2d(x, kernel_size).flatten(2)


def _pool_masked(x: Tensor, padding_mask: PaddingMask, make_bins: Callable, kernel_size: int) -> Tensor:
    """Average over the bins of the valid part of each map: (B, C, H, W) -> (B, C, K * K)."""
    key = (make_bins, kernel_size, x.dtype)
    if key not in padding_mask.cache:
        members, length = make_bins(padding_mask, kernel_size)
        about = padding_mask.shape[0] * padding_mask.shape[1] // kernel_size**2
        padding_mask.cache[key] = _scaled(members.flatten(2), length, about, x.dtype)
    return _average(*padding_mask.cache[key], x.permute(0, 2, 3, 1).flatten(1, 2))


def _flat_bins(padding_mask: PaddingMask, kernel_size: int) -> tuple[Tensor, Tensor]:
    """Members (B, K * K, H, W) and length (B, K * K, 1) of the runs in reading order."""
    heights, widths = padding_mask.sizes[:, 0, None], padding_mask.sizes[:, 1, None]
    rows, columns = (torch.arange(side, device=heights.device) for side in padding_mask.shape)
    place = rows[:, None] * widths[:, :, None] + columns  # (B, H, W), in reading order of the valid part
    bins = kernel_size * kernel_size
    first, last = _bounds(torch.arange(bins, device=heights.device), heights * widths, bins)
    place, (begin, end) = place[:, None], (bound[:, :, None, None] for bound in (first, last))
    return (place >= begin) & (place < end) & padding_mask.valid(), (last - first)[:, :, None]


def _grid_bins(padding_mask: PaddingMask, kernel_size: int) -> tuple[Tensor, Tensor]:
    """Members (B, K * K, H, W) and number of pixels (B, K * K, 1) of the cells of a K x K grid."""
    index = torch.arange(kernel_size, device=padding_mask.sizes.device)
    bounds = [_bounds(index, padding_mask.sizes[:, axis, None], kernel_size) for axis in (0, 1)]
    inside = []
    for side, (first, last) in zip(padding_mask.shape, bounds):
        pixel = torch.arange(side, device=index.device)
        inside.append((pixel >= first[:, :, None]) & (pixel < last[:, :, None]))  # (B, K, side)
    rows, columns = inside
    members = rows[:, :, None, :, None] & columns[:, None, :, None, :]
    lengths = [last - first for first, last in bounds]
    return members.flatten(1, 2), (lengths[0][:, :, None] * lengths[1][:, None, :]).flatten(1)[:, :, None]


CONTEXT_POOLS = {'flat': flat_pool, 'grid': grid_pool}
