"""Launches of the Triton kernels of context-to-kernel (C2K)."""

import torch
from torch import Tensor

from mmatconv.ops.context_to_kernel.triton_kernels import generate_kernel, pool_kernel, spread_kernel
from mmatconv.ops.memory_format import empty, nearest_format
from mmatconv.ops.sum_dtype import sum_dtype
from mmatconv.ops.triton_tiling import (
    DTYPES,
    THREADS,
    accumulator,
    ceil_div,
    map_arguments,
    on_device,
    power_of_two,
    readable,
    sum_tiles,
    warp_size,
)

__all__ = ['DTYPES', 'generate', 'pool', 'spread']

# Elements of a tile that a thread holds: loads of 16 bytes, several of them in flight.
POOL_ELEMENTS = 16
SPREAD_ELEMENTS = 8
# Programs wanted at once, and the tiles below which a program is not worth its partial sums.
PROGRAMS = 2048
FEWEST_TILES = 4
# Elements of the tile that generates kernels: rows times positions, which are padded to a power of two.
GENERATE_TILE = 1024


def pool(x: Tensor, size: int, grid: bool, sizes: Tensor | None = None) -> Tensor:
    """Adaptive average of a map over ``size * size`` bins, in one reading: see ``context_pool``.

    Args:
        x: (B, C, H, W), any strides; copied once unless columns or channels are adjacent in memory, and for strips
            also unless each row begins where the one before ends or there are ``sizes``.
        size: K.
        grid: Bins are cells of a K x K grid, not strips.
        sizes: (B, 2), int32, of the maps without their padding. Default: None, no padding.

    Returns:
        (B, C, K * K), channels innermost, in float32 for half precision.
    """
    memory_format = nearest_format(x)
    pooled = torch.empty((x.shape[0], size * size, x.shape[1]), dtype=sum_dtype(x), device=x.device)
    if not pooled.numel():
        return pooled.transpose(1, 2)
    x, rows, columns = _binned(x, size, grid, memory_format, sizes)
    runs = sizes is not None and not grid
    extent = (1, x.shape[2] * x.shape[3]) if runs else x.shape[2:]
    height, width = (ceil_div(side, bins) + 1 for side, bins in zip(extent, (rows, columns)))
    width = min(width, extent[1])
    blocks, counts, strides, constants = map_arguments(
        (x,), POOL_ELEMENTS, 16 // x.element_size(), memory_format, width
    )
    programs = x.shape[0] * size * size * blocks[0]
    splits = max(1, min(ceil_div(PROGRAMS, programs), height * blocks[1] // FEWEST_TILES))
    partial = pooled
    if splits > 1:
        partial = torch.empty((splits, pooled.numel()), dtype=pooled.dtype, device=x.device)
    with on_device(x):
        pool_kernel[(programs * splits,)](
            x, x if sizes is None else sizes.contiguous(), partial, *counts, blocks[0], splits, *strides,
            ROW_BINS=rows, COLUMN_BINS=columns, WITH_SIZES=sizes is not None, RUNS=runs, **constants,
        )  # fmt: skip
        if splits > 1:
            sum_tiles(partial, pooled)
    return pooled.transpose(1, 2)


def spread(
    grad: Tensor,
    shape: tuple[int, int],
    size: int,
    grid: bool,
    memory_format: torch.memory_format,
    dtype: torch.dtype,
    sizes: Tensor | None = None,
) -> Tensor:
    """The gradient of :func:`pool` to its map, in one writing.

    Args:
        grad: (B, C, K * K), copied unless its channels are innermost.
        shape: H and W.
        size: K.
        grid: Bins are cells of a K x K grid, not strips.
        memory_format: Of the result.
        dtype: Of the result.
        sizes: As for :func:`pool`. Default: None.

    Returns:
        (B, C, H, W).
    """
    y = torch.empty((*grad.shape[:2], *shape), dtype=dtype, device=grad.device, memory_format=memory_format)
    if not y.numel():
        return y
    grad = grad.transpose(1, 2).contiguous()
    view, rows, columns = _binned(y, size, grid, memory_format, sizes)
    runs = sizes is not None and not grid
    vector = min(SPREAD_ELEMENTS, 16 // y.element_size())
    blocks, counts, strides, constants = map_arguments((view,), SPREAD_ELEMENTS, vector, memory_format)
    with on_device(y):
        spread_kernel[(y.shape[0] * view.shape[2] * blocks[0] * blocks[1],)](
            grad, grad if sizes is None else sizes.contiguous(), view, *counts, *blocks, *strides,
            ROW_BINS=rows, COLUMN_BINS=columns, WITH_SIZES=sizes is not None, RUNS=runs, **constants,
        )  # fmt: skip
    return y


def generate(
    context: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    difference: Tensor,
    sigmoid: bool,
    size: int,
    channels_last: bool,
) -> Tensor:
    """Kernels from their context: see ``generate_kernels``, of which these are the arguments."""
    batch, channels, positions = context.shape
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    y = empty((batch, channels, size, size), context, memory_format)
    if not y.numel():
        return y
    padded = max(power_of_two(positions), 16)
    rows = batch * channels
    block = max(GENERATE_TILE // padded, 1)
    strides = (*context.stride(), y.stride(0), y.stride(1), y.stride(3))
    with on_device(y):
        generate_kernel[(ceil_div(rows, block),)](
            context, weight.contiguous(), weight if bias is None else bias.contiguous(), difference.contiguous(), y,
            rows, channels, *strides,
            POSITIONS=positions, PADDED=padded, BLOCK_R=block, WITH_BIAS=bias is not None, SIGMOID=sigmoid,
            ACC=accumulator(context.dtype), num_warps=THREADS // warp_size(y.device),
        )  # fmt: skip
    return y


def _binned(
    x: Tensor, size: int, grid: bool, memory_format: torch.memory_format, sizes: Tensor | None
) -> tuple[Tensor, int, int]:
    """The map as its bins see it, rows of bins, columns of bins: strips are bins of a map of one row.

    Unless there is padding at the ends of the rows, which remain then.
    """
    if grid:
        return readable(x, memory_format), size, size
    if sizes is not None:
        return readable(x, memory_format), 1, size * size
    shape = (*x.shape[:2], 1, x.shape[2] * x.shape[3])
    try:
        row = x.view(shape)
    except RuntimeError:
        row = x.contiguous(memory_format=memory_format).view(shape)
    return readable(row, memory_format), 1, size * size
