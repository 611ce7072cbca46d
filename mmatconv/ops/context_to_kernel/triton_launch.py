"""Launches of the Triton kernels of context-to-kernel (C2K)."""

from functools import lru_cache

import torch
from torch import Tensor

from mmatconv.ops.context_to_kernel.generator_kernels import generate_gradients_kernel, generate_kernel
from mmatconv.ops.context_to_kernel.triton_kernels import pool_kernel, spread_kernel
from mmatconv.ops.memory_format import nearest_format
from mmatconv.ops.sum_dtype import sum_dtype
from mmatconv.ops.triton_plans import PLANS, Layout, Plan, layout
from mmatconv.ops.triton_tiling import (
    DTYPES,
    THREADS,
    accumulator,
    ceil_div,
    map_arguments,
    power_of_two,
    readable,
    sum_tiles,
    warp_size,
)

__all__ = ['DTYPES', 'generate', 'generate_gradients', 'pool', 'spread']

# Elements of a tile that a thread holds: loads of 16 bytes, several of them in flight.
POOL_ELEMENTS = 16
SPREAD_ELEMENTS = 8
# Programs wanted at once, and the tiles below which a program is not worth its partial sums.
PROGRAMS = 2048
FEWEST_TILES = 4
# Elements of the tile that generates kernels: rows times positions, which are padded to a power of two.
GENERATE_TILE = 1024
# Programs wanted at once for its gradients, and the samples below which one is not worth its partial sums.
GRADIENTS_PROGRAMS = 512
FEWEST_SAMPLES = 4


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
    plan, splits = _pool(layout(x), rows, columns, sizes is not None, grid, memory_format)
    partial = pooled
    if splits > 1:
        partial = torch.empty((splits, pooled.numel()), dtype=pooled.dtype, device=x.device)
    plan(x, x if sizes is None else sizes.contiguous(), partial)
    if splits > 1:
        sum_tiles(partial, pooled)
    return pooled.transpose(1, 2)


@lru_cache(PLANS)
def _pool(
    x: Layout, rows: int, columns: int, with_sizes: bool, grid: bool, memory_format: torch.memory_format
) -> tuple[Plan, int]:
    """The launch, and over how many programs the pixels of a bin are split."""
    runs = with_sizes and not grid
    extent = (1, x.shape[2] * x.shape[3]) if runs else x.shape[2:]
    height, width = (ceil_div(side, bins) + 1 for side, bins in zip(extent, (rows, columns)))
    width = min(width, extent[1])
    blocks, counts, strides, constants = map_arguments(
        (x,), POOL_ELEMENTS, 16 // x.element_size(), memory_format, width
    )
    programs = x.shape[0] * rows * columns * blocks[0]
    splits = max(1, min(ceil_div(PROGRAMS, programs), height * blocks[1] // FEWEST_TILES))
    constants |= dict(ROW_BINS=rows, COLUMN_BINS=columns, WITH_SIZES=with_sizes, RUNS=runs)
    return Plan(pool_kernel, (programs * splits,), (*counts, blocks[0], splits, *strides), **constants), splits


def spread(
    grad: Tensor,
    grad_map: Tensor | None,
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
        grad_map: (B, C, H, W), to be added, or None; copied unless dense in ``memory_format``.
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
    if grad_map is not None and (grad_map.stride() != y.stride() or grad_map.dtype != dtype):
        grad_map = torch.empty_like(y).copy_(grad_map)
    if not y.numel():
        return y
    grad = grad.transpose(1, 2).contiguous()
    view, rows, columns = _binned(y, size, grid, memory_format, sizes)
    plan = _spread(layout(view), rows, columns, sizes is not None, grid, memory_format)
    grad_map = None if grad_map is None else grad_map.as_strided(view.shape, view.stride())
    plan(grad, grad if sizes is None else sizes.contiguous(), grad_map, view)
    return y


@lru_cache(PLANS)
def _spread(
    y: Layout, rows: int, columns: int, with_sizes: bool, grid: bool, memory_format: torch.memory_format
) -> Plan:
    vector = min(SPREAD_ELEMENTS, 16 // y.element_size())
    blocks, counts, strides, constants = map_arguments((y,), SPREAD_ELEMENTS, vector, memory_format)
    constants |= dict(ROW_BINS=rows, COLUMN_BINS=columns, WITH_SIZES=with_sizes, RUNS=with_sizes and not grid)
    programs = y.shape[0] * y.shape[2] * blocks[0] * blocks[1]
    return Plan(spread_kernel, (programs,), (*counts, *blocks, *strides), **constants)


def generate(
    context: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    difference: Tensor,
    sigmoid: bool,
    size: int,
    channels_last: bool,
    dtype: torch.dtype,
) -> Tensor:
    """Kernels from their context: see ``generate_kernels``, of which these are the arguments."""
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    shape = *context.shape[:2], size, size
    y = torch.empty(shape, dtype=dtype, device=context.device, memory_format=memory_format)
    if not y.numel():
        return y
    weight = weight.contiguous()
    plan = _generate(layout(context), layout(y), bias is not None, sigmoid)
    plan(context, weight, weight if bias is None else bias.contiguous(), difference.contiguous(), y)
    return y


@lru_cache(PLANS)
def _generate(context: Layout, y: Layout, with_bias: bool, sigmoid: bool) -> Plan:
    constants = _generator_constants(context, with_bias, sigmoid)
    rows = context.shape[0] * context.shape[1]
    strides = (*context.strides, y.stride(0), y.stride(1), y.stride(3))
    grid = (ceil_div(rows, constants['BLOCK_R']),)
    return Plan(generate_kernel, grid, (rows, context.shape[1], *strides), **constants)


def generate_gradients(
    grad: Tensor, context: Tensor, weight: Tensor, bias: Tensor | None, difference: Tensor, sigmoid: bool
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """Gradients of :func:`generate` to context, weight, bias and difference.

    Args:
        grad: (B, C, K, K), of the kernels.
        context: (B, C, K * K).
        weight: (K * K, K * K).
        bias: (K * K,) or None.
        difference: (C,).
        sigmoid: As for :func:`generate`.
    """
    positions = context.shape[2]
    grad_context = torch.empty_like(context)
    sums = torch.empty(positions * (positions + 1), dtype=weight.dtype, device=weight.device)
    grad_weight, grad_bias = sums[: positions * positions].view(weight.shape), sums[positions * positions :]
    if not context.numel():
        return grad_context, grad_weight.zero_(), grad_bias.zero_(), torch.zeros_like(difference)
    if grad.stride(2) != grad.shape[3] * grad.stride(3):
        grad = grad.contiguous()
    plan, programs, splits = _gradients(layout(grad), layout(context), layout(grad_context), bias is not None, sigmoid)
    wide = sum_dtype(context)
    partial = torch.empty((programs, sums.numel()), dtype=wide, device=context.device)
    grad_difference = shares = torch.empty(difference.shape, dtype=difference.dtype, device=context.device)
    if splits > 1:
        shares = torch.empty((splits, difference.numel()), dtype=wide, device=context.device)
    weight = weight.contiguous()
    shift = weight if bias is None else bias.contiguous()
    plan(grad, context, weight, shift, difference.contiguous(), grad_context, shares, partial)
    sum_tiles(partial, sums, *((shares, grad_difference) if splits > 1 else ()))
    return grad_context, grad_weight, grad_bias, grad_difference


@lru_cache(PLANS)
def _gradients(grad: Layout, context: Layout, y: Layout, with_bias: bool, sigmoid: bool) -> tuple[Plan, int, int]:
    """The launch, its programs, and over how many of them the samples are split."""
    batch, channels, _ = context.shape
    constants = _generator_constants(context, with_bias, sigmoid)
    blocks = ceil_div(channels, constants['BLOCK_R'])
    share = max(FEWEST_SAMPLES, ceil_div(batch * blocks, GRADIENTS_PROGRAMS))
    splits = ceil_div(batch, share)
    strides = (grad.stride(0), grad.stride(1), grad.stride(3), *context.strides, *y.strides)
    numbers = (batch, channels, share, *strides)
    plan = Plan(generate_gradients_kernel, (blocks * splits,), numbers, **constants)
    return plan, blocks * splits, splits


def _generator_constants(context: Layout, with_bias: bool, sigmoid: bool) -> dict:
    positions = context.shape[2]
    padded = max(power_of_two(positions), 16)
    return dict(
        POSITIONS=positions,
        PADDED=padded,
        BLOCK_R=max(GENERATE_TILE // padded, 1),
        WITH_BIAS=with_bias,
        SIGMOID=sigmoid,
        ACC=accumulator(context.dtype),
        num_warps=THREADS // warp_size(context.device),
    )


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
