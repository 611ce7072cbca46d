"""The Triton kernels of a gate that is given, ``gelu(gate) * value``, and their gradients.

Maps come as rows of whatever lies side by side. Strides between rows and the width of a row come in units of ``VEC``,
which tells the compiler that loads of so many are aligned. Offsets are 64 bits wide.
"""

import triton
import triton.language as tl

from mmatconv.ops.glu.triton_gelu import gelu_and_slope

_SIZES = ['rows', 'units', 'pieces', 'x_r', 'g_r', 'd_r', 'y_r']


@triton.jit
def _tile(rows, units, pieces, BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr, VEC: tl.constexpr):
    """Rows (BLOCK_R, 1) and columns (1, BLOCK_D) of this program, one of ``pieces`` of each row, and which exist."""
    row = (tl.program_id(0) // pieces).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)[:, None]
    column = (tl.program_id(0) % pieces).to(tl.int64) * BLOCK_D + tl.arange(0, BLOCK_D)[None, :]
    return row, column, (row < rows) & (column < units.to(tl.int64) * VEC)


@triton.jit(do_not_specialize=_SIZES)
def gate_kernel(
    x, g, y,
    rows, units, pieces, x_r, g_r, y_r,
    BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr, VEC: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """``y = gelu(g) * x``."""
    row, column, own = _tile(rows, units, pieces, BLOCK_R, BLOCK_D, VEC)
    gate = tl.load(g + row * g_r * VEC + column, mask=own, other=0).to(ACC)
    value = tl.load(x + row * x_r * VEC + column, mask=own, other=0).to(ACC)
    activated, _ = gelu_and_slope(gate, False)
    tl.store(y + row * y_r * VEC + column, (activated * value).to(y.dtype.element_ty), mask=own)


@triton.jit(do_not_specialize=_SIZES)
def gate_gradients_kernel(
    x, g, grad, y, z,
    rows, units, pieces, x_r, g_r, d_r, y_r,
    BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr, VEC: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Gradients ``y`` of the gate ``g`` and ``z`` of the value ``x``, whose strides are alike."""
    row, column, own = _tile(rows, units, pieces, BLOCK_R, BLOCK_D, VEC)
    gate = tl.load(g + row * g_r * VEC + column, mask=own, other=0).to(ACC)
    value = tl.load(x + row * x_r * VEC + column, mask=own, other=0).to(ACC)
    total = tl.load(grad + row * d_r * VEC + column, mask=own, other=0).to(ACC)
    activated, slope = gelu_and_slope(gate, True)
    at = row * y_r * VEC + column
    tl.store(y + at, (total * value * slope).to(y.dtype.element_ty), mask=own)
    tl.store(z + at, (total * activated).to(z.dtype.element_ty), mask=own)
