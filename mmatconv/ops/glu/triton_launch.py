"""Launches of the Triton kernels of a gated linear unit."""

from math import gcd, prod

import torch
from torch import Tensor

from mmatconv.ops.glu.triton_kernels import gate_gradients_kernel, gate_kernel
from mmatconv.ops.triton_tiling import DTYPES, THREADS, accumulator, ceil_div, on_device, power_of_two, warp_size

__all__ = ['DTYPES', 'gate', 'gate_gradients']

# Elements of each map that a thread holds.
ELEMENTS = 8


def gate(gate: Tensor, value: Tensor, eps: float | None) -> tuple[Tensor, Tensor | None]:
    """``gelu(gate) * value`` and the scale of RMSNorm behind it: see ``glu.gelu_mul``.

    Args:
        gate: (..., D), any strides; copied once unless rows lie alike and dense in both.
        value: The same shape.
        eps: Added to the mean square; None for no scale.

    Returns:
        The product, contiguous, and the scale (..., 1) or None.
    """
    y = torch.empty(gate.shape, dtype=gate.dtype, device=gate.device)
    scale = None if eps is None else _empty_rows(gate)
    if not y.numel():
        return y, scale
    maps, whole = _rows((gate, value, y), eps is not None)
    g, x, out = maps
    programs, sizes, strides, constants = _arguments((x, g, out), whole)
    with on_device(y):
        gate_kernel[(programs,)](
            x, g, out, y if scale is None else scale, *sizes, *strides, WITH_SCALE=whole, EPS=eps or 0.0, **constants
        )
    return y, scale


def gate_gradients(
    grad: Tensor, grad_scale: Tensor | None, gate: Tensor, value: Tensor, scale: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Gradients of :func:`gate`.

    Args:
        grad: (..., D), of the product.
        grad_scale: (..., 1) or None, of the scale.
        gate: (..., D).
        value: (..., D).
        scale: (..., 1) or None.

    Returns:
        The gradients of gate and value, contiguous.
    """
    y, z = (torch.empty(gate.shape, dtype=gate.dtype, device=gate.device) for _ in range(2))
    if not y.numel():
        return y, z
    with_scale = scale is not None
    maps, _ = _rows((gate, value, grad, y, z), with_scale)
    g, x, d, out, out_value = maps
    programs, sizes, strides, constants = _arguments((x, g, d, out), False)
    if with_scale:
        scale, grad_scale = scale.contiguous(), grad_scale.contiguous()
    with on_device(y):
        gate_gradients_kernel[(programs,)](
            x, g, d, scale if with_scale else y, grad_scale if with_scale else y, out, out_value, *sizes, *strides,
            WITH_SCALE=with_scale, **constants,
        )  # fmt: skip
    return y, z


def _empty_rows(x: Tensor) -> Tensor:
    """An empty (..., 1) for one value per row of (..., D), in the dtype of the sums."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    return torch.empty((*x.shape[:-1], 1), dtype=dtype, device=x.device)


def _rows(maps: tuple[Tensor, ...], whole: bool) -> tuple[list[Tensor], bool]:
    """Maps of one shape as matrices (rows, width), and ``whole``.

    Where whole rows of the last dimension are not asked for, rows are as long as the strides of all maps allow.
    """
    shape = maps[0].shape
    for split in range(len(shape) - 1 if whole else 0, len(shape)):
        if all(_merges(x, 0, split) and _merges(x, split, len(shape), dense=True) for x in maps):
            return [x.view(prod(shape[:split]), prod(shape[split:])) for x in maps], whole
    return _rows(tuple(x.contiguous() for x in maps), whole)


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


def _arguments(maps: tuple[Tensor, ...], whole: bool) -> tuple[int, tuple[int, int, int], list[int], dict]:
    """Programs, sizes, strides between rows, and the constants of a kernel."""
    rows, width = maps[0].shape
    strides = [x.stride(0) if rows > 1 else width for x in maps]
    vector = gcd(min(ELEMENTS, 16 // maps[0].element_size()), width, *strides)
    block_r, block_d = block(rows, width)
    pieces = 1 if whole else ceil_div(width, block_d)
    constants = dict(
        BLOCK_R=block_r,
        BLOCK_D=block_d,
        VEC=vector,
        ACC=accumulator(maps[0].dtype),
        num_warps=THREADS // warp_size(maps[0].device),
    )
    return ceil_div(rows, block_r) * pieces, (rows, width // vector, pieces), [s // vector for s in strides], constants


def block(rows: int, width: int) -> tuple[int, int]:
    """Rows and columns of a tile, powers of two, the columns those that cover ``width`` with the least waste."""
    elements = THREADS * ELEMENTS
    columns = min((elements, 512, 256, 128, 64), key=lambda b: (ceil_div(width, b) * (b + 8), -b))
    columns = min(columns, power_of_two(width))
    return min(elements // columns, power_of_two(rows)), columns
