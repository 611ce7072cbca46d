"""Launches of the Triton kernels: which tile each shape gets, and how a map that is no dense tensor is read."""

from contextlib import nullcontext
from functools import lru_cache
from math import gcd

import torch
import triton
import triton.language as tl
from torch import Tensor

from mmatconv.ops.memory_format import empty, nearest_format

if tuple(map(int, triton.__version__.split('.')[:2])) < (3, 3):
    raise ImportError(
        f'its kernels hold tuples of tensors, for which Triton {triton.__version__} is too old, 3.3 is not'
    )

from mmatconv.ops.dynamic_conv.triton_kernels import convolve_kernel, gradients_kernel, sum_tiles_kernel

KERNEL_SIZES = (1, 3, 5, 7)
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
THREADS = 128
# Results that a thread holds for each row, and the rows of a group. Larger kernels leave fewer registers: these were
# chosen so that nothing spills on sm_80, sm_90 and gfx90a, which the compiler says without a GPU; docs/operator.md.
CONVOLVE_TILE = {1: (4, 8), 3: (4, 8), 5: (2, 4), 7: (2, 4)}
GRADIENTS_TILE = {1: (4, 4), 3: (2, 4), 5: (1, 4), 7: (1, 4)}
# Programs wanted at once for the gradients, some for each multiprocessor of the largest GPUs. Where the tiles are
# more, each sums over more rows and fewer partial sums are written.
PROGRAMS = 2048


def convolve(input: Tensor, kernel: Tensor, flip: bool = False) -> Tensor:
    """Depthwise convolution with a kernel for each sample and channel.

    Args:
        input: (B, C, H, W), any strides; copied once unless columns or channels are neighbours in memory.
        kernel: (B, C, K, K), K one of ``KERNEL_SIZES``; copied unless dense in the memory format of the input.
        flip: Turn the kernels by 180 degrees. Default: False.

    Returns:
        (B, C, H, W) in the memory format nearest to the input's.
    """
    memory_format = nearest_format(input)
    output = empty(input.shape, input, memory_format)
    if output.numel():
        _convolve(input, kernel, output, memory_format, flip)
    return output


def gradients(
    grad_output: Tensor, input: Tensor, kernel: Tensor, with_input: bool = True, with_kernel: bool = True
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of :func:`convolve`, in one pass over both maps where both are wanted.

    Args:
        grad_output: (B, C, H, W), any strides.
        input: (B, C, H, W), any strides.
        kernel: (B, C, K, K).
        with_input: Whether the gradient to the input is wanted. Default: True.
        with_kernel: Whether the gradient to the kernel is wanted. Default: True.

    Returns:
        The gradients to input and kernel, both in the memory format nearest to the input's; None if not wanted.
    """
    memory_format = nearest_format(input)
    grad_input = empty(input.shape, input, memory_format) if with_input else None
    grad_kernel = empty(kernel.shape, kernel, memory_format) if with_kernel else None
    if not input.numel():
        return grad_input, grad_kernel
    if with_kernel:
        _gradients(grad_output, input, kernel, grad_input, grad_kernel, memory_format)
    elif with_input:
        _convolve(grad_output, kernel, grad_input, memory_format, flip=True)
    return grad_input, grad_kernel


def _convolve(x: Tensor, kernel: Tensor, y: Tensor, memory_format: torch.memory_format, flip: bool) -> None:
    size = kernel.shape[-1]
    x = readable(x, memory_format)
    kernel = kernel.contiguous(memory_format=memory_format)
    elements, rows = CONVOLVE_TILE[size]
    blocks, sizes, strides, constants = map_arguments((x, y), elements, min(elements, 4), memory_format)
    strips = -(-x.shape[2] // rows)
    with on_device(x):
        convolve_kernel[(x.shape[0] * blocks[0] * blocks[1] * strips,)](
            x, kernel, y, *sizes, *blocks, strips, *strides, K=size, FLIP=flip, ROWS=rows, **constants
        )


def _gradients(
    g: Tensor,
    x: Tensor,
    kernel: Tensor,
    grad_input: Tensor | None,
    grad_kernel: Tensor,
    memory_format: torch.memory_format,
) -> None:
    batch, _, height, _ = x.shape
    size = kernel.shape[-1]
    g, x = readable(g, memory_format), readable(x, memory_format)
    kernel = kernel.contiguous(memory_format=memory_format)
    y = x if grad_input is None else grad_input  # only its strides are read
    elements, rows = GRADIENTS_TILE[size]
    blocks, sizes, strides, constants = map_arguments((g, x, y), elements, min(elements, 4), memory_format)
    row_groups = -(-height // rows)
    groups = -(-row_groups // max(1, PROGRAMS // (batch * blocks[0] * blocks[1])))
    strips = -(-row_groups // groups)
    tiles = strips * blocks[1]
    partial = grad_kernel
    if tiles > 1:
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        partial = torch.empty((tiles, grad_kernel.numel()), dtype=dtype, device=x.device)
    with on_device(x):
        gradients_kernel[(batch * blocks[0] * blocks[1] * strips,)](
            g, x, kernel, y, partial, *sizes, *blocks, strips, groups, *strides,
            K=size, WITH_INPUT=grad_input is not None, ROWS=rows, **constants,
        )  # fmt: skip
        if tiles > 1:
            numel = grad_kernel.numel()
            sum_tiles_kernel[(-(-numel // 128),)](partial, grad_kernel, tiles, numel, BLOCK_T=16, BLOCK_N=128)


def map_arguments(
    maps: tuple[Tensor, ...], elements: int, vector: int, memory_format: torch.memory_format, width: int | None = None
) -> tuple[tuple[int, int], tuple[int, int, int], list[int], dict]:
    """How maps of one shape are cut into tiles.

    Args:
        maps: Tensors (B, C, H, W), readable in ``memory_format``.
        elements: Numbers of a tile that each thread holds.
        vector: Channels that one load should take in channels_last, where C and the strides allow.
        memory_format: Which side of a tile lies innermost.
        width: Columns that tiles have to cover. Default: W.

    Returns:
        Blocks of channels and columns, sizes, strides of all maps, and the constants of a kernel.
    """
    _, channels, height, columns = maps[0].shape
    width = columns if width is None else width
    channels_last = memory_format == torch.channels_last
    block_w, block_c = tile(width, channels, THREADS * elements, channels_last)
    strides = [stride for t in maps for stride in t.stride()]
    vector = gcd(vector, channels, *(t.stride(i) for t in maps for i in (0, 2, 3))) if channels_last else 1
    constants = dict(
        BLOCK_W=block_w,
        BLOCK_C=block_c,
        VEC=vector,
        CHANNELS_LAST=channels_last,
        ACC=accumulator(maps[0].dtype),
        num_warps=THREADS // warp_size(maps[0].device),
    )
    blocks = (-(-channels // block_c), -(-width // block_w))
    return blocks, (channels // vector, height, columns), [stride // vector for stride in strides], constants


def accumulator(dtype: torch.dtype) -> tl.dtype:
    """What sums of numbers of a dtype are kept in."""
    return tl.float64 if dtype == torch.float64 else tl.float32


def tile(width: int, channels: int, elements: int, channels_last: bool) -> tuple[int, int]:
    """Columns and channels of a tile, powers of two whose product is at most ``elements``.

    The dimension that lies innermost in memory gets its block first: the one that covers it with the least waste at
    the end, a border between blocks counted as a few elements. The other fills the tile.
    """
    inner, outer = (channels, width) if channels_last else (width, channels)
    choices, border = ((32, 16), 4) if channels_last else ((128, 64, 32, 16), 16)
    block = min(choices, key=lambda b: (-(-inner // b) * (b + border), -b))
    block = min(block, power_of_two(inner))
    other = min(elements // block, power_of_two(outer))
    if channels_last:
        block = min(elements // other, power_of_two(inner), 128)
        return other, block
    return block, other


@lru_cache
def warp_size(device: torch.device) -> int:
    if device.type != 'cuda':
        return 32
    return getattr(torch.cuda.get_device_properties(device), 'warp_size', 64 if torch.version.hip else 32)


def power_of_two(n: int) -> int:
    """The smallest power of two that is not below ``n``."""
    return 1 << (n - 1).bit_length()


def readable(x: Tensor, memory_format: torch.memory_format) -> Tensor:
    """``x`` itself if its innermost dimension lies side by side in memory, else a dense copy."""
    inner = 1 if memory_format == torch.channels_last else 3
    return x if x.stride(inner) == 1 or x.shape[inner] == 1 else x.contiguous(memory_format=memory_format)


def on_device(x: Tensor) -> nullcontext | torch.cuda.device:
    """Triton launches on the current device."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()
