"""Launches of the Triton kernels of residual sum and LayerNorm."""

from functools import lru_cache

import torch
import triton.language as tl
from torch import Tensor

from mmatconv.ops.paths import Unsupported
from mmatconv.ops.residual_norm.triton_kernels import residual_norm_gradients_kernel, residual_norm_kernel
from mmatconv.ops.sum_dtype import sum_dtype
from mmatconv.ops.triton_plans import PLANS, Plan
from mmatconv.ops.triton_tiling import DTYPES, THREADS, accumulator, ceil_div, power_of_two, warp_size

__all__ = ['DTYPES', 'add_and_normalise', 'gradients']

# Elements of each map that a thread holds, as far as rows are not longer; and the longest row.
ELEMENTS = 8
CHANNELS = 2048
# Programs for the gradients, as many as the largest GPUs run at once: three for each of 132 multiprocessors, as their
# registers allow. And the tiles below which a program is not worth its partial sums.
PROGRAMS = 396
FEWEST_TILES = 4


def add_and_normalise(
    x: Tensor,
    branch: Tensor | None,
    row_scale: Tensor | None,
    offset: Tensor | None,
    gamma: Tensor | None,
    factor: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float | None,
    dtype: torch.dtype,
    stream_dtype: torch.dtype,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The stream and its norm: see ``residual_norm``.

    Args:
        x: (B, C, H, W).
        branch: (B, C, H, W) or None: ``x`` is the stream.
        row_scale: (B, 1, H, W) or None.
        offset: (C,) or None, the bias of the branch.
        gamma: (C,) or None.
        factor: (B, 1, 1, 1) or None.
        weight: (C,) or None.
        bias: (C,) or None.
        eps: None for no norm.
        dtype: Of the normalised map.
        stream_dtype: Of the sum.

    Returns:
        Stream and normalised map, (B, C, H, W) in channels_last, and for each pixel the mean of its channels and one
        over their deviation, (2, B * H * W); None where not computed.

    Raises:
        Unsupported: More channels than a program holds.
    """
    x = _dense(x)
    stream = x if branch is None else torch.empty_like(x, dtype=stream_dtype)
    normalised = stats = None
    if eps is not None:
        normalised = torch.empty_like(x, dtype=dtype)
        pixels = x.shape[0] * x.shape[2] * x.shape[3]
        stats = torch.empty((2, pixels), dtype=sum_dtype(stream), device=x.device)
    if x.numel():
        given = _dense(branch), _flat(row_scale), offset, gamma, _flat(factor), weight, bias
        plan = _plan(x.shape, stream.dtype, x.device, *[t is not None for t in given], eps)
        plan(x, *given, stream, normalised, stats)
    return stream, normalised, stats


@lru_cache(PLANS)
def _plan(
    shape: torch.Size,
    dtype: torch.dtype,
    device: torch.device,
    branch: bool,
    row_scale: bool,
    offset: bool,
    gamma: bool,
    factor: bool,
    weight: bool,
    bias: bool,
    eps: float | None,
) -> Plan:
    rows, block_r, constants = _tiles(shape, dtype, device)
    return Plan(
        residual_norm_kernel,
        (ceil_div(rows, block_r),),
        (rows, shape[2] * shape[3]),
        WITH_BRANCH=branch,
        WITH_ROW_SCALE=row_scale,
        WITH_OFFSET=offset,
        WITH_GAMMA=gamma,
        WITH_FACTOR=factor,
        WITH_GAIN=weight,
        WITH_SHIFT=bias,
        WITH_NORM=eps is not None,
        EPS=eps or 0.0,
        **constants,
    )


def gradients(
    grad_stream: Tensor | None,
    grad_normalised: Tensor | None,
    x: Tensor | None,
    branch: Tensor | None,
    row_scale: Tensor | None,
    offset: Tensor | None,
    gamma: Tensor | None,
    factor: Tensor | None,
    weight: Tensor | None,
    stats: Tensor | None,
    dtypes: tuple[torch.dtype, torch.dtype, torch.dtype | None],
) -> tuple[Tensor | None, ...]:
    """Gradients of :func:`add_and_normalise`.

    Args:
        grad_stream: (B, C, H, W) or None, that of the stream.
        grad_normalised: (B, C, H, W) or None, that of the normalised map.
        x: As given; without ``gamma`` the stream. None without a norm.
        branch: As given; None without ``gamma`` and ``row_scale``.
        row_scale: (B, 1, H, W) or None.
        offset: (C,) or None.
        gamma: (C,) or None.
        factor: (B, 1, 1, 1) or None.
        weight: (C,) or None.
        stats: What :func:`add_and_normalise` returned.
        dtypes: Of ``x`` as given, of the stream, and of the branch that was added, None for none.

    Returns:
        The gradients of x, branch, row_scale, offset, gamma, weight and bias; None where there is no such argument,
        but for that of the bias, in the dtype of sums, wherever there is a norm.
    """
    x_dtype, stream_dtype, branch_dtype = dtypes
    normed = grad_normalised is not None
    some = x if normed else grad_stream
    if normed:
        grad_x = torch.empty_like(some, dtype=x_dtype, memory_format=torch.channels_last)
    else:
        grad_x = _dense(grad_stream).to(x_dtype)
    scaled = any(t is not None for t in (row_scale, gamma, factor))
    separate = branch_dtype is not None and (scaled or branch_dtype != grad_x.dtype)
    grad_branch = torch.empty_like(grad_x, dtype=branch_dtype) if separate else grad_x
    grad_row_scale = None
    if row_scale is not None:
        grad_row_scale = torch.empty(row_scale.shape, dtype=row_scale.dtype, device=row_scale.device)
    sums = (gamma is not None) + (offset is not None) + 2 * normed
    plan = partial = None
    if some.numel() and (separate or sums):
        present = [t is not None for t in (grad_stream, row_scale, offset, gamma, factor, weight)]
        plan = _gradients_plan(some.shape, stream_dtype, some.device, separate, normed, sums, *present)
    if sums:
        programs = 0 if plan is None else plan.grid[0]
        partial = torch.empty(
            (programs, sums, some.shape[1]), dtype=torch.promote_types(stream_dtype, torch.float32), device=some.device
        )
    if plan is not None:
        given = _dense(branch), _flat(row_scale), offset, gamma, _flat(factor), weight, stats
        written = grad_x, grad_branch, grad_row_scale, partial
        plan(_dense(x) if normed else grad_x, *given, _dense(grad_stream), _dense(grad_normalised), *written)
    totals = iter(partial.sum(0).unbind()) if sums else None
    grad_gamma = None if gamma is None else next(totals).to(gamma.dtype)
    grad_offset = None if offset is None else next(totals).to(offset.dtype)
    grad_weight, grad_bias = totals if normed else (None, None)
    return (
        grad_x,
        None if branch_dtype is None else grad_branch,
        grad_row_scale,
        grad_offset,
        grad_gamma,
        None if grad_weight is None or weight is None else grad_weight.to(weight.dtype),
        grad_bias,
    )


@lru_cache(PLANS)
def _gradients_plan(
    shape: torch.Size,
    dtype: torch.dtype,
    device: torch.device,
    branch: bool,
    norm: bool,
    sums: int,
    stream: bool,
    row_scale: bool,
    offset: bool,
    gamma: bool,
    factor: bool,
    weight: bool,
) -> Plan:
    rows, block_r, constants = _tiles(shape, dtype, device)
    tiles = max(ceil_div(rows, block_r * PROGRAMS), FEWEST_TILES)
    return Plan(
        residual_norm_gradients_kernel,
        (ceil_div(rows, block_r * tiles),),
        (rows, shape[2] * shape[3], tiles),
        WITH_AFTER=stream,
        WITH_BRANCH=branch,
        WITH_ROW_SCALE=row_scale,
        WITH_OFFSET=offset,
        WITH_GAMMA=gamma,
        WITH_FACTOR=factor,
        WITH_NORM=norm,
        WITH_GAIN=weight,
        SUMS=sums,
        STREAM=getattr(tl, str(dtype).removeprefix('torch.')),
        **constants,
    )


def _dense(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.contiguous(memory_format=torch.channels_last)


def _flat(x: Tensor | None) -> Tensor | None:
    """A number for each pixel or sample, side by side in memory."""
    return None if x is None else x.contiguous()


def _tiles(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> tuple[int, int, dict]:
    """Rows, rows of a tile, and the constants of a kernel."""
    batch, channels, height, width = shape
    if channels > CHANNELS:
        raise Unsupported(f'the map has {channels} channels, but there are kernels for at most {CHANNELS}')
    rows = batch * height * width
    block_c = power_of_two(channels)
    block_r = min(max(THREADS * ELEMENTS // block_c, 1), power_of_two(rows))
    return (
        rows,
        block_r,
        dict(
            C=channels,
            BLOCK_R=block_r,
            BLOCK_C=block_c,
            ACC=accumulator(dtype),
            num_warps=THREADS // warp_size(device),
        ),
    )
