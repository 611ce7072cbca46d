"""The pooling of context-to-kernel (C2K) in operations of torch: from a feature map to K * K positions."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from mmatconv.layers.padding_mask import PaddingMask
from mmatconv.ops.autocast import outside_autocast
from mmatconv.ops.context_to_kernel.bins import bounds, members
from mmatconv.ops.memory_format import is_channels_last
from mmatconv.ops.tracing import is_compiling, is_exporting, is_traced

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
        return _pool_masked(x, padding_mask, kernel_size, grid=False)
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
    return _average(membership.expand(x.shape[0], -1, -1), length, pixels)


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
    first, last = bounds(run, count, bins)
    return _scaled((pixel >= first) & (pixel < last), last - first, count // bins, dtype)


_cached_runs = lru_cache(maxsize=32)(_make_runs)


def _scaled(inside: Tensor, length: Tensor, about: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    # A power of two near one over the length is exact in half precision, and keeps sums within its range.
    share = 2.0 ** -(10 if is_traced() else about.bit_length())
    return inside.to(dtype) * share, (length * share).to(torch.promote_types(dtype, torch.float32))


def grid_pool(x: Tensor, kernel_size: int, padding_mask: PaddingMask | None = None) -> Tensor:
    """Adaptive average over a K x K grid, as equation 7 of the paper has it.

    Args:
        x: (B, C, H, W).
        kernel_size: K.
        padding_mask: What of the map is padding. Default: None, nothing.

    Returns:
        (B, C, K * K), rows of the grid first.
    """
    if padding_mask is None and is_exporting():
        # ONNX has no adaptive average over bins that do not divide the map.
        sides = (torch.ones_like(side, dtype=torch.int32) for side in (x[:, 0, :, 0], x[:, 0, 0]))
        padding_mask = PaddingMask(torch.stack([side.sum(1, dtype=torch.int32) for side in sides], 1), x.shape[2:])
    if padding_mask is not None:
        return _pool_masked(x, padding_mask, kernel_size, grid=True)
    return F.adaptive_avg_pool2d(x, kernel_size).flatten(2)


def _pool_masked(x: Tensor, padding_mask: PaddingMask, kernel_size: int, grid: bool) -> Tensor:
    """Average over the bins of the valid part of each map: (B, C, H, W) -> (B, C, K * K)."""
    key = (grid, kernel_size, x.dtype)
    if key not in padding_mask.cache:
        inside, length = members(padding_mask.sizes, padding_mask.shape, kernel_size, grid)
        about = padding_mask.shape[0] * padding_mask.shape[1] // kernel_size**2
        padding_mask.cache[key] = _scaled(inside.flatten(2), length, about, x.dtype)
    return _average(*padding_mask.cache[key], x.permute(0, 2, 3, 1).flatten(1, 2))


CONTEXT_POOLS = {'flat': flat_pool, 'grid': grid_pool}
