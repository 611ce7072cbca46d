"""The Triton kernels of a gated linear unit: GELU, product and the sums of squares of RMSNorm, and their gradients.

Maps come as rows: of channels at each pixel where RMSNorm follows, else of whatever lies side by side. Strides between
rows and the width of a row come in units of ``VEC``, which tells the compiler that loads of so many are aligned.
Offsets are 64 bits wide and sums are in ``ACC``; a row is summed by one program, so that results repeat bit by bit.
"""

import triton
import triton.language as tl

from mmatconv.ops.triton_functions import gelu


@triton.jit
def _tile(row, column, stride, VEC: tl.constexpr):
    """Offsets (BLOCK_R, BLOCK_D) of a tile."""
    return row.to(tl.int64)[:, None] * stride * VEC + column[None, :]


_SIZES = ['rows', 'units', 'pieces', 'x_r', 'g_r', 'd_r', 'y_r']


@triton.jit(do_not_specialize=_SIZES)
def gate_kernel(
    x, g, y, scale,
    rows, units, pieces, x_r, g_r, y_r,
    WITH_SCALE: tl.constexpr, EPS: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr, VEC: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """``y = gelu(g) * x``; WITH_SCALE also ``scale = 1 / sqrt(mean(y ** 2) + eps)`` of each row.

    A program has ``BLOCK_R`` rows, whole for the scale, else one of ``pieces`` of each.
    """
    row = tl.program_id(0) // pieces * BLOCK_R + tl.arange(0, BLOCK_R)
    width = units * VEC
    start = (tl.program_id(0) % pieces).to(tl.int64) * BLOCK_D
    end = tl.minimum(start + BLOCK_D, width)
    if WITH_SCALE:
        end = width
    squares = tl.zeros((BLOCK_R, BLOCK_D), ACC)
    for first in range(start, end, BLOCK_D):
        column = first + tl.arange(0, BLOCK_D)
        own = (row < rows)[:, None] & (column < width)[None, :]
        gate = tl.load(g + _tile(row, column, g_r, VEC), mask=own, other=0).to(ACC)
        value = tl.load(x + _tile(row, column, x_r, VEC), mask=own, other=0).to(ACC)
        product = (gelu(gate) * value).to(y.dtype.element_ty)
        tl.store(y + _tile(row, column, y_r, VEC), product, mask=own)
        if WITH_SCALE:
            # Of what is stored: the norm divides rounded numbers.
            squares += product.to(ACC) * product.to(ACC)
    if WITH_SCALE:
        mean = tl.sum(squares, 1) / width.to(ACC)
        tl.store(scale + row, 1.0 / tl.sqrt(mean + EPS), mask=row < rows)


@triton.jit(do_not_specialize=_SIZES)
def gate_gradients_kernel(
    x, g, grad, scale, grad_scale, y, z,
    rows, units, pieces, x_r, g_r, d_r, y_r,
    WITH_SCALE: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr, VEC: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Gradients ``y`` of the gate ``g`` and ``z`` of the value ``x``, whose strides are alike.

    ``grad`` is the product's, ``grad_scale`` the scale's: ``d scale / d product = -scale ** 3 / width * product``.
    """
    row = tl.program_id(0) // pieces * BLOCK_R + tl.arange(0, BLOCK_R)
    width = units * VEC
    column = (tl.program_id(0) % pieces).to(tl.int64) * BLOCK_D + tl.arange(0, BLOCK_D)
    own = (row < rows)[:, None] & (column < width)[None, :]
    gate = tl.load(g + _tile(row, column, g_r, VEC), mask=own, other=0).to(ACC)
    value = tl.load(x + _tile(row, column, x_r, VEC), mask=own, other=0).to(ACC)
    total = tl.load(grad + _tile(row, column, d_r, VEC), mask=own, other=0).to(ACC)
    below = 0.5 * (1.0 + tl.erf(gate * 0.7071067811865476))
    activated = gate * below
    if WITH_SCALE:
        root = tl.load(scale + row, mask=row < rows, other=0)
        along = tl.load(grad_scale + row, mask=row < rows, other=0) * root * root * root / width.to(ACC)
        total -= along[:, None] * (activated * value).to(y.dtype.element_ty).to(ACC)
    slope = below + gate * tl.exp(-0.5 * gate * gate) * 0.3989422804014327
    tl.store(y + _tile(row, column, y_r, VEC), (total * value * slope).to(y.dtype.element_ty), mask=own)
    tl.store(z + _tile(row, column, y_r, VEC), (total * activated).to(z.dtype.element_ty), mask=own)
