"""Launches of the Triton kernels of the dynamic depthwise convolution."""

from functools import lru_cache
from math import gcd

import torch
from torch import Tensor

from mmatconv.ops.dynamic_conv.triton_kernels import convolve_kernel, gradients_kernel
from mmatconv.ops.memory_format import empty, nearest_format
from mmatconv.ops.paths import Unsupported
from mmatconv.ops.sum_dtype import sum_dtype
from mmatconv.ops.triton_plans import HIP, PLANS, Layout, Plan, layout
from mmatconv.ops.triton_tiling import (
    DTYPES,
    THREADS,
    accumulator,
    ceil_div,
    power_of_two,
    readable,
    sum_tiles,
    warp_size,
)

__all__ = ['DTYPES', 'convolve', 'gradients']

KERNEL_SIZES = (1, 3, 5, 7)
# What a thread holds: columns and, at most, channels in channels_last, columns in the contiguous format. Larger kernels
# leave fewer registers: these were chosen so that nothing spills on any GPU, which the compiler says; docs/operator.md.
CONVOLVE_LANE = {1: (2, 8, 8), 3: (2, 8, 8), 5: (2, 4, 8), 7: (2, 2, 8)}
GRADIENTS_LANE = {1: (2, 8, 8), 3: (2, 4, 8), 5: (2, 2, 4), 7: (2, 1, 4)}
# With so many registers a thread three programs share a multiprocessor of NVIDIA. Left alone, its compiler takes some
# more for a small convolution in half precision and channels_last, without need: nothing spills.
REGISTERS = 168
# Bytes of the widest load.
LOAD = 16
# Programs that the largest GPUs run at once (three for each of 132 multiprocessors in channels_last, as their registers
# allow), and the rows below which a strip is not worth reading and adding K - 1 more, in units of K.
PROGRAMS = {True: 396, False: 792}
FEWEST_ROWS = 2


def convolve(
    input: Tensor,
    kernel: Tensor,
    flip: bool = False,
    memory_format: torch.memory_format | None = None,
    sizes: Tensor | None = None,
) -> Tensor:
    """Depthwise convolution with a kernel for each sample and channel.

    Args:
        input: (B, C, H, W), any strides; copied once unless columns or channels are adjacent in memory.
        kernel: (B, C, K, K), K one of ``KERNEL_SIZES``; copied unless dense in the memory format of the result.
        flip: Turn the kernels by 180 degrees and, with ``sizes``, set the padding of the result to zero instead of
            that of the input: the gradient to the input. Default: False.
        memory_format: Of the result. Default: the one nearest to the input's.
        sizes: (B, 2), int32, height and width from which on the input counts as zero. Default: None, nowhere.

    Returns:
        (B, C, H, W).

    Raises:
        Unsupported: Another K.
    """
    _check(kernel)
    if memory_format is None:
        memory_format = nearest_format(input)
    output = empty(input.shape, input, memory_format)
    if not output.numel():
        return output
    input = readable(input, memory_format)
    kernel = kernel.contiguous(memory_format=memory_format)
    maps = layout(input), layout(output)
    plan, _ = _plan(maps, memory_format, kernel.shape[-1], FLIP=flip, WITH_SIZES=sizes is not None)
    plan(input, input if sizes is None else sizes.contiguous(), kernel, output)
    return output


def gradients(
    grad_output: Tensor,
    input: Tensor,
    kernel: Tensor,
    with_input: bool = True,
    with_kernel: bool = True,
    sizes: Tensor | None = None,
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of :func:`convolve`, in one pass over both maps where both are wanted.

    Args:
        grad_output: (B, C, H, W), any strides.
        input: (B, C, H, W), any strides.
        kernel: (B, C, K, K).
        with_input: Whether the gradient to the input is wanted. Default: True.
        with_kernel: Whether the gradient to the kernel is wanted. Default: True.
        sizes: As for :func:`convolve`. Default: None.

    Returns:
        The gradients to input and kernel, both in the memory format nearest to the input's; None if not wanted.

    Raises:
        Unsupported: Another K.
    """
    _check(kernel)
    memory_format = nearest_format(input)
    if not with_kernel:
        return convolve(grad_output, kernel, True, memory_format, sizes) if with_input else None, None
    grad_input = empty(input.shape, input, memory_format) if with_input else None
    grad_kernel = empty(kernel.shape, kernel, memory_format)
    if not input.numel():
        return grad_input, grad_kernel
    grad_output, input = readable(grad_output, memory_format), readable(input, memory_format)
    kernel = kernel.contiguous(memory_format=memory_format)
    y = input if grad_input is None else grad_input  # only its strides are read
    maps = layout(grad_output), layout(input), layout(y)
    plan, tiles = _plan(maps, memory_format, kernel.shape[-1], WITH_INPUT=with_input, WITH_SIZES=sizes is not None)
    partial = grad_kernel
    if tiles > 1:
        partial = torch.empty((tiles, grad_kernel.numel()), dtype=sum_dtype(input), device=input.device)
    plan(grad_output, input, input if sizes is None else sizes.contiguous(), kernel, y, partial)
    if tiles > 1:
        sum_tiles(partial, grad_kernel)
    return grad_input, grad_kernel


@lru_cache(PLANS)
def _plan(maps: tuple[Layout, ...], memory_format: torch.memory_format, size: int, **flags: bool) -> tuple[Plan, int]:
    """A launch of the kernel for two maps or of that for three, and the tiles that it cuts the map of a sample into."""
    channels_last = memory_format == torch.channels_last
    batch, channels, height, width = maps[0].shape
    kernel, table = (convolve_kernel, CONVOLVE_LANE) if len(maps) == 2 else (gradients_kernel, GRADIENTS_LANE)
    columns, vector, contiguous_columns = table[size]
    if not channels_last:
        columns = vector = contiguous_columns
    # The compiler proves that accesses are aligned from what all their offsets are multiples of.
    offsets = [t.stride(i) for t in maps for i in ((0, 2, 3) if channels_last else (0, 1, 2))]
    vector = gcd(min(vector, LOAD // maps[0].element_size()), channels if channels_last else width, *offsets)
    units = channels // vector if channels_last else channels
    block_w, block_c = lanes(ceil_div(width, columns), units, channels_last)
    blocks = ceil_div(units, block_c), ceil_div(width, block_w * columns)
    programs = batch * blocks[0] * blocks[1]
    strips = min(ceil_div(PROGRAMS[channels_last], programs), ceil_div(height, FEWEST_ROWS * size))
    rows = ceil_div(height, strips)
    strips = ceil_div(height, rows)
    if len(maps) == 2 and channels_last and size <= 3 and maps[0].element_size() == 2 and not HIP:
        flags['maxnreg'] = REGISTERS
    strides = [stride // vector for t in maps for stride in t.stride()]
    plan = Plan(
        kernel,
        (programs * strips,),
        (units, height, width, *blocks, strips, rows, *strides),
        K=size,
        COLS=columns,
        BLOCK_W=block_w,
        BLOCK_C=block_c,
        VEC=vector,
        CHANNELS_LAST=channels_last,
        ACC=accumulator(maps[0].dtype),
        num_warps=THREADS // warp_size(maps[0].device),
        **flags,
    )
    return plan, strips * blocks[1]


def lanes(columns: int, channels: int, channels_last: bool) -> tuple[int, int]:
    """Lanes of a program along columns and channels, powers of two whose product is at most ``THREADS``.

    The innermost dimension in memory gets its block first: the one that covers it with the least waste at the end. The
    other dimension fills the program.
    """
    inner, outer = (channels, columns) if channels_last else (columns, channels)
    block = min((16, 8, 4), key=lambda b: (ceil_div(inner, b) * (b + 1), -b))
    block = min(block, power_of_two(inner))
    other = min(THREADS // block, power_of_two(outer))
    block = min(THREADS // other, power_of_two(inner))
    return (other, block) if channels_last else (block, other)


def _check(kernel: Tensor) -> None:
    if kernel.shape[-1] not in KERNEL_SIZES:
        sizes = ', '.join(map(str, KERNEL_SIZES))
        raise Unsupported(f'the kernel size is {kernel.shape[-1]}, but there are kernels for {sizes}')
