"""What the launches of all Triton kernels share: tiles for each shape, and maps that are not dense."""

from functools import lru_cache
from math import gcd

import torch
import triton.language as tl
from torch import Tensor

from mmatconv.ops.triton_functions import sum_tiles_kernel
from mmatconv.ops.triton_plans import PLANS, Layout, Plan

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
THREADS = 128


def ceil_div(a: int, b: int) -> int:
    """``a / b`` rounded up, for ``a`` from 0 and ``b`` from 1."""
    return (a + b - 1) // b


def sum_tiles(
    partial: Tensor, total: Tensor, other_partial: Tensor | None = None, other_total: Tensor | None = None
) -> None:
    """Write the sum of ``partial`` (tiles, N) over its tiles to ``total``, of N elements.

    The others, of which tiles and N may differ, are summed in the same launch. Default: None.
    """
    other_shape = (0, 0) if other_partial is None else other_partial.shape
    _sum_tiles(*partial.shape, *other_shape)(partial, total, other_partial, other_total)


@lru_cache(PLANS)
def _sum_tiles(tiles: int, numel: int, other_tiles: int, other_numel: int) -> Plan:
    # Few columns and many tiles for each program: the gradients of a few hundred kernels have hundreds of tiles.
    block = 32
    grid = (ceil_div(numel, block) + ceil_div(other_numel, block),)
    return Plan(sum_tiles_kernel, grid, (tiles, numel, other_tiles, other_numel), BLOCK_T=64, BLOCK_N=block)


def map_arguments(
    maps: tuple[Tensor | Layout, ...],
    elements: int,
    vector: int,
    memory_format: torch.memory_format,
    width: int | None = None,
) -> tuple[tuple[int, int], tuple[int, int, int], list[int], dict]:
    """How maps of one shape are cut into tiles.

    Args:
        maps: Tensors (B, C, H, W), readable in ``memory_format``.
        elements: Elements of a tile that each thread holds.
        vector: Channels that one load should take in channels_last, where C and the strides allow.
        memory_format: Which side of a tile is innermost in memory.
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
    blocks = (ceil_div(channels, block_c), ceil_div(width, block_w))
    return blocks, (channels // vector, height, columns), [stride // vector for stride in strides], constants


def accumulator(dtype: torch.dtype) -> tl.dtype:
    """The dtype in which values of a dtype are summed."""
    return tl.float64 if dtype == torch.float64 else tl.float32


def tile(width: int, channels: int, elements: int, channels_last: bool) -> tuple[int, int]:
    """Columns and channels of a tile, powers of two whose product is at most ``elements``.

    The innermost dimension in memory gets its block first: the one that covers it with the least waste at the end,
    where a border between blocks counts as a few elements. The other dimension fills the tile.
    """
    inner, outer = (channels, width) if channels_last else (width, channels)
    choices, border = ((32, 16), 4) if channels_last else ((128, 64, 32, 16), 16)
    block = min(choices, key=lambda b: (ceil_div(inner, b) * (b + border), -b))
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
