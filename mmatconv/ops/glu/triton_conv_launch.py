"""Launches of the Triton kernels of a gated linear unit whose gate is a 3x3 depthwise convolution."""

from functools import lru_cache
from math import gcd

import torch
from torch import Tensor

from mmatconv.ops.glu.triton_conv_kernels import (
    conv_gate_gradients_kernel,
    conv_gate_kernel,
    conv_gradients_kernel,
    scale_kernel,
)
from mmatconv.ops.triton_tiling import accumulator, ceil_div, on_device, power_of_two, sum_tiles, warp_size

# Elements of each map that a thread holds, in the kernels of the gate and in that of the convolution's gradients, whose
# nine sums for each would spill. A program is one warp: sums over channels and columns need no barrier.
GATE_ELEMENTS, GRADIENTS_ELEMENTS = 8, 4
# Programs wanted at once, some for each scheduler of the largest GPUs, and rows that are worth the two more that a
# strip reads. Where the tiles are more, strips are longer.
PROGRAMS, FEWEST_ROWS = 4096, 4


def conv_gate(
    gate: Tensor, value: Tensor, weight: Tensor, bias: Tensor, sizes: Tensor | None, eps: float | None
) -> tuple[Tensor, Tensor | None]:
    """The product and the scale of ``glu.conv_gelu_mul``, whose arguments these are, both contiguous."""
    product = torch.empty(gate.shape, dtype=gate.dtype, device=gate.device)
    pixels = product.numel() // max(gate.shape[-1], 1)
    scale = squares = None
    wide = _wide(gate.dtype)
    if eps is not None:
        scale = torch.empty((*gate.shape[:-1], 1), dtype=wide, device=gate.device)
    if not product.numel():
        return product, scale
    g, x = _rows(gate), _rows(value)
    programs, sides, strides, constants = _plan(gate, len(weight), GATE_ELEMENTS, g, x)
    blocks = sides[4]
    if eps is not None:
        squares = torch.empty((blocks, pixels), dtype=wide, device=gate.device)
    with on_device(product):
        conv_gate_kernel[(programs,)](
            g, x, weight.contiguous(), bias, sizes, product, squares, *sides, *strides, **constants
        )
        if eps is not None:
            depth = power_of_two(blocks)
            side = max(1024 // depth, 1)
            scale_kernel[(ceil_div(pixels, side),)](
                squares, scale, pixels, len(weight), blocks, EPS=eps, BLOCK_N=side, BLOCK_B=depth
            )
    return product, scale


def conv_gate_gradients(
    grad: Tensor,
    grad_scale: Tensor | None,
    gate: Tensor,
    value: Tensor,
    weight: Tensor,
    bias: Tensor,
    sizes: Tensor | None,
    scale: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of :func:`conv_gate`.

    Args:
        grad: (B, H, W, D), of the product.
        grad_scale: (B, H, W, 1) or None, of the scale.
        gate: (B, H, W, D).
        value: (B, H, W, D).
        weight: (E, 1, 3, 3), E at most D.
        bias: (E,).
        sizes: (B, 2) or None.
        scale: (B, H, W, 1) or None, what :func:`conv_gate` returned.

    Returns:
        The gradients of gate, value, weight and bias, contiguous.
    """
    grad_gate, grad_value, grad_output = (
        torch.empty(gate.shape, dtype=gate.dtype, device=gate.device) for _ in range(3)
    )
    hidden = len(weight)
    total = torch.empty(10 * hidden, dtype=weight.dtype, device=weight.device)
    grad_weight, grad_bias = total[: 9 * hidden].view(weight.shape), total[9 * hidden :]
    if not gate.numel():
        return grad_gate, grad_value, grad_weight.zero_(), grad_bias.zero_()
    g, x, d = _rows(gate), _rows(value), _rows(grad)
    weight = weight.contiguous()
    if scale is not None:
        grad_scale = grad_scale.contiguous()
    programs, sides, strides, constants = _plan(gate, hidden, GATE_ELEMENTS, g, x, d)
    with on_device(gate):
        conv_gate_gradients_kernel[(programs,)](
            g, x, weight, bias, sizes, d, scale, grad_scale, grad_value, grad_output, *sides, *strides, **constants
        )
        programs, sides, strides, constants = _plan(gate, hidden, GRADIENTS_ELEMENTS, g)
        partial = torch.empty((programs // sides[4], 10 * hidden), dtype=_wide(gate.dtype), device=gate.device)
        conv_gradients_kernel[(programs,)](
            grad_output, g, weight, sizes, grad_gate, partial, *sides, *strides, **constants
        )
        sum_tiles(partial, total)
    return grad_gate, grad_value, grad_weight, grad_bias


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _rows(x: Tensor) -> Tensor:
    """(B, H, W, D) as (B * H * W, D) with channels side by side, copied only where its strides do not allow that."""
    rows = x.reshape(-1, x.shape[-1])
    return rows if rows.stride(1) == 1 else rows.contiguous()


def _plan(gate: Tensor, hidden: int, elements: int, *maps: Tensor) -> tuple[int, tuple, tuple, dict]:
    """Programs, sizes, strides between the pixels of ``maps``, and the constants of a kernel."""
    return _plan_of(gate.shape, gate.dtype, gate.device, hidden, elements, tuple(rows.stride(0) for rows in maps))


@lru_cache(maxsize=4096)
def _plan_of(
    shape: torch.Size, dtype: torch.dtype, device: torch.device, hidden: int, elements: int, strides: tuple[int, ...]
) -> tuple[int, tuple, tuple, dict]:
    batch, height, width, channels = shape
    vector = gcd(min(elements, 16 // dtype.itemsize), channels, *strides)
    block_w, block_c = block(width, channels, warp_size(device) * elements)
    channel_blocks, column_blocks = ceil_div(channels, block_c), ceil_div(width, block_w)
    tiles = batch * channel_blocks * column_blocks
    strips = min(ceil_div(height, FEWEST_ROWS), max(1, PROGRAMS // tiles))
    rows = ceil_div(height, strips)
    strips = ceil_div(height, rows)
    constants = dict(BLOCK_W=block_w, BLOCK_C=block_c, VEC=vector, ACC=accumulator(dtype), num_warps=1)
    sides = channels // vector, hidden, height, width, channel_blocks, column_blocks, strips, rows
    return tiles * strips, sides, tuple(stride // vector for stride in strides), constants


def block(width: int, channels: int, elements: int) -> tuple[int, int]:
    """Columns and channels of a tile, powers of two: what covers a row with the least waste, borders included."""
    sides = [(min(elements // c, power_of_two(width)), min(c, power_of_two(channels))) for c in (32, 64, 128)]
    return min(sides, key=lambda s: (ceil_div(width, s[0]) * (s[0] + 1) * ceil_div(channels, s[1]) * s[1], s[1]))
