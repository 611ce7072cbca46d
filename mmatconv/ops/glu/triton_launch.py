"""Launches of the Triton kernels of a gated linear unit."""

from functools import lru_cache
from math import gcd, prod

import torch
from torch import Tensor

from mmatconv.ops.glu.triton_conv_launch import conv_gate, conv_gate_gradients
from mmatconv.ops.glu.triton_kernels import gate_gradients_kernel, gate_kernel
from mmatconv.ops.triton_plans import PLANS, Layout, Plan, layout
from mmatconv.ops.triton_tiling import DTYPES, THREADS, accumulator, ceil_div, power_of_two, warp_size

__all__ = ['DTYPES', 'conv_gate', 'conv_gate_gradients', 'gate', 'gate_gradients']

# Elements of each map that a thread holds.
ELEMENTS = 8


def gate(gate: Tensor, value: Tensor) -> Tensor:
    """``gelu(gate) * value``: see ``glu.gelu_mul``.

    Args:
        gate: Any shape and strides; copied once unless rows lie alike and dense in both.
        value: The same shape.

    Returns:
        The product, contiguous.
    """
    y = torch.empty(gate.shape, dtype=gate.dtype, device=gate.device)
    if y.numel():
        g, x, out = _rows((gate, value, y))
        _gate(layout(x), layout(g), layout(out))(x, g, out)
    return y


def gate_gradients(grad: Tensor, gate: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of :func:`gate` from that of the product: those of gate and value, contiguous."""
    y, z = (torch.empty(gate.shape, dtype=gate.dtype, device=gate.device) for _ in range(2))
    if y.numel():
        g, x, d, out, out_value = _rows((gate, value, grad, y, z))
        _gate_gradients(layout(x), layout(g), layout(d), layout(out))(x, g, d, out, out_value)
    return y, z


@lru_cache(PLANS)
def _gate(*maps: Layout) -> Plan:
    grid, numbers, constants = _arguments(maps)
    return Plan(gate_kernel, grid, numbers, **constants)


@lru_cache(PLANS)
def _gate_gradients(*maps: Layout) -> Plan:
    grid, numbers, constants = _arguments(maps)
    return Plan(gate_gradients_kernel, grid, numbers, **constants)


def _rows(maps: tuple[Tensor, ...]) -> list[Tensor]:
    """Maps of one shape as matrices (rows, width), rows as long as the strides of all maps allow."""
    shape = maps[0].shape
    for split in range(len(shape)):
        if all(_merges(x, 0, split) and _merges(x, split, len(shape), dense=True) for x in maps):
            return [x.view(prod(shape[:split]), prod(shape[split:])) for x in maps]
    return _rows(tuple(x.contiguous() for x in maps))


def _merges(x: Tensor, first: int, end: int, dense: bool = False) -> bool:
    """Whether dimensions ``first`` to ``end`` are one in memory; ``dense`` asks for neighbours too."""
    step = 1 if dense else None
    for size, stride in zip(reversed(x.shape[first:end]), reversed(x.stride()[first:end])):
        if size == 1:
            continue
        if step is not None and stride != step:
            return False
        step = stride * size
    return True


def _arguments(maps: tuple[Layout, ...]) -> tuple[tuple[int], tuple[int, ...], dict]:
    """Grid, numbers (sizes, then strides between rows) and constants of a kernel."""
    rows, width = maps[0].shape
    strides = [x.stride(0) if rows > 1 else width for x in maps]
    vector = gcd(min(ELEMENTS, 16 // maps[0].element_size()), width, *strides)
    block_r, block_d = block(rows, width)
    pieces = ceil_div(width, block_d)
    constants = dict(
        BLOCK_R=block_r,
        BLOCK_D=block_d,
        VEC=vector,
        ACC=accumulator(maps[0].dtype),
        num_warps=THREADS // warp_size(maps[0].device),
    )
    grid = (ceil_div(rows, block_r) * pieces,)
    return grid, (rows, width // vector, pieces, *(stride // vector for stride in strides)), constants


def block(rows: int, width: int) -> tuple[int, int]:
    """Rows and columns of a tile, powers of two, the columns those that cover ``width`` with the least waste."""
    elements = THREADS * ELEMENTS
    columns = min((elements, 512, 256, 128, 64), key=lambda b: (ceil_div(width, b) * (b + 8), -b))
    columns = min(columns, power_of_two(width))
    return min(elements // columns, power_of_two(rows)), columns
