"""Launches of the Triton kernels of a gated linear unit whose gate is a 3x3 depthwise convolution."""

from functools import lru_cache
from math import gcd

import torch
from torch import Tensor

from mmatconv.ops.glu.triton_conv_kernels import (
    conv_gate_gradients_kernel,
    conv_gate_kernel,
    conv_input_gradient_kernel,
    scale_kernel,
)
from mmatconv.ops.sum_dtype import sum_dtype
from mmatconv.ops.triton_plans import PLANS, Layout, Plan, layout
from mmatconv.ops.triton_tiling import accumulator, ceil_div, power_of_two, sum_tiles, warp_size

# Elements of each map that a thread holds, and in the kernel that sums the gradients of the weights, nine for each,
# which would spill. A program is one warp: sums over channels and columns need no barrier.
ELEMENTS, GRADIENTS_ELEMENTS = 8, 4
# Programs wanted at once, some for each scheduler of the largest GPUs, and rows that are worth the two more that a
# strip reads. Where the tiles are more, strips are longer.
PROGRAMS, FEWEST_ROWS = 4096, 4


def conv_gate(
    both: Tensor, weight: Tensor, bias: Tensor, sizes: Tensor | None, eps: float | None
) -> tuple[Tensor, Tensor | None]:
    """The product and the scale of ``glu.conv_gelu_mul``, whose arguments these are, both contiguous."""
    shape = *both.shape[:3], both.shape[3] // 2
    product = torch.empty(shape, dtype=both.dtype, device=both.device)
    scale = squares = None
    if eps is not None:
        scale = torch.empty((*shape[:3], 1), dtype=sum_dtype(both), device=both.device)
    if not product.numel():
        return product, scale
    gate, value = readable(both).chunk(2, dim=3)
    plan, blocks = _gate(layout(gate), len(weight))
    if eps is not None:
        squares = torch.empty((blocks, scale.numel()), dtype=scale.dtype, device=both.device)
    plan(gate, value, weight.contiguous(), bias, sizes, product, squares)
    if eps is not None:
        _scale(blocks, scale.numel(), len(weight), eps)(squares, scale)
    return product, scale


def conv_gate_gradients(
    grad: Tensor,
    grad_scale: Tensor | None,
    both: Tensor,
    weight: Tensor,
    bias: Tensor,
    sizes: Tensor | None,
    scale: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of :func:`conv_gate`.

    Args:
        grad: (B, H, W, D), of the product.
        grad_scale: (B, H, W, 1) or None, of the scale.
        both: (B, H, W, 2 * D).
        weight: (E, 1, 3, 3), E at most D.
        bias: (E,).
        sizes: (B, 2) or None.
        scale: (B, H, W, 1) or None, what :func:`conv_gate` returned.

    Returns:
        The gradients of gate and value as one, its sum over the pixels (2 * E,), those of weight and bias, contiguous.
    """
    grad_both = torch.empty(both.shape, dtype=both.dtype, device=both.device)
    grad_gate, grad_value = grad_both.chunk(2, dim=3)
    grad_output = torch.empty(grad_gate.shape, dtype=both.dtype, device=both.device)
    hidden = len(weight)
    total = torch.empty(12 * hidden, dtype=weight.dtype, device=weight.device)
    sums, grad_weight, grad_bias = total.split([2 * hidden, 9 * hidden, hidden])
    grad_weight = grad_weight.view(weight.shape)
    if not both.numel():
        total.zero_()
        return grad_both, sums, grad_weight, grad_bias
    gate, value = readable(both).chunk(2, dim=3)
    grad, weight = readable(grad), weight.contiguous()
    if scale is not None:
        grad_scale = grad_scale.contiguous()
    plan, tiles = _gate_gradients(layout(gate), layout(grad), hidden)
    others = torch.empty((tiles, 11 * hidden), dtype=sum_dtype(gate), device=gate.device)
    plan(gate, value, weight, bias, sizes, grad, scale, grad_scale, grad_value, grad_output, others)
    plan, tiles = _input_gradient(layout(grad_output), hidden)
    of_gate = torch.empty((tiles, hidden), dtype=others.dtype, device=gate.device)
    plan(grad_output, weight, sizes, grad_gate, of_gate)
    sum_tiles(others, total[hidden:], of_gate, sums[:hidden])
    return grad_both, sums, grad_weight, grad_bias


def readable(x: Tensor) -> Tensor:
    """(B, H, W, D) ``x`` itself if its channels are adjacent and its pixels evenly spaced in memory, else a copy."""
    _, height, width, _ = x.shape
    batch_stride, row_stride, stride, step = x.stride()
    if step == 1 and row_stride == width * stride and batch_stride == height * row_stride:
        return x
    # Not contiguous(), which leaves any stride to a side of length 1.
    return x.clone(memory_format=torch.contiguous_format)


@lru_cache(PLANS)
def _gate(gate: Layout, hidden: int) -> tuple[Plan, int]:
    """The launch, and the blocks of channels that it sums squares over."""
    programs, numbers, constants = _arguments((gate,), hidden, ELEMENTS)
    return Plan(conv_gate_kernel, (programs,), numbers, **constants), numbers[4]


@lru_cache(PLANS)
def _scale(blocks: int, pixels: int, hidden: int, eps: float) -> Plan:
    depth = power_of_two(blocks)
    side = max(1024 // depth, 1)
    grid = (ceil_div(pixels, side),)
    return Plan(scale_kernel, grid, (pixels, hidden, blocks), EPS=eps, BLOCK_N=side, BLOCK_B=depth)


@lru_cache(PLANS)
def _gate_gradients(gate: Layout, grad: Layout, hidden: int) -> tuple[Plan, int]:
    """The launch, and the tiles of pixels that it sums over."""
    programs, numbers, constants = _arguments((gate, grad), hidden, GRADIENTS_ELEMENTS)
    return Plan(conv_gate_gradients_kernel, (programs,), numbers, **constants), programs // numbers[4]


@lru_cache(PLANS)
def _input_gradient(grad: Layout, hidden: int) -> tuple[Plan, int]:
    """The launch, and the tiles of pixels that it sums over."""
    programs, numbers, constants = _arguments((grad,), hidden, ELEMENTS)
    return Plan(conv_input_gradient_kernel, (programs,), numbers, **constants), programs // numbers[4]


def _arguments(maps: tuple[Layout, ...], hidden: int, elements: int) -> tuple[int, tuple[int, ...], dict]:
    """Programs of a kernel, its numbers (the sizes, then the stride from pixel to pixel of each map), its constants."""
    first = maps[0]
    batch, height, width, channels = first.shape
    strides = [x.stride(2) for x in maps]
    vector = gcd(min(elements, 16 // first.element_size()), channels, *strides)
    block_w, block_c = block(width, channels, warp_size(first.device) * elements)
    channel_blocks, column_blocks = ceil_div(channels, block_c), ceil_div(width, block_w)
    tiles = batch * channel_blocks * column_blocks
    strips = min(ceil_div(height, FEWEST_ROWS), max(1, PROGRAMS // tiles))
    rows = ceil_div(height, strips)
    strips = ceil_div(height, rows)
    sizes = channels // vector, hidden, height, width, channel_blocks, column_blocks, strips, rows
    constants = dict(BLOCK_W=block_w, BLOCK_C=block_c, VEC=vector, ACC=accumulator(first.dtype), num_warps=1)
    return tiles * strips, (*sizes, *(stride // vector for stride in strides)), constants


def block(width: int, channels: int, elements: int) -> tuple[int, int]:
    """Columns and channels of a tile, powers of two: what covers a row with the least waste, borders included."""
    sides = [(min(elements // c, power_of_two(width)), min(c, power_of_two(channels))) for c in (32, 64, 128)]
    return min(sides, key=lambda s: (ceil_div(width, s[0]) * (s[0] + 1) * ceil_div(channels, s[1]) * s[1], s[1]))
