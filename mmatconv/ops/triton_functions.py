"""What the Triton kernels of several operators call, and the kernel that adds up their partial sums.

Strides come in units of ``VEC`` in channels_last, offsets are 64 bits wide.
"""

import triton
import triton.language as tl

if tuple(map(int, triton.__version__.split('.')[:2])) < (3, 3):
    raise ImportError(
        f'the kernels hold tuples of tensors, which need Triton 3.3 or later, but it is {triton.__version__}',
        name='triton',
    )


@triton.jit
def tile_offset(sample, columns, channels, b, c, w, VEC: tl.constexpr, CHANNELS_LAST: tl.constexpr):
    """Where row 0 of the tile begins, from the strides of sample, channel and column."""
    if CHANNELS_LAST:
        return sample * b * VEC + columns.to(tl.int64) * w * VEC + channels
    return sample * b + channels.to(tl.int64) * c + columns


@triton.jit
def row_step(row, shift: tl.constexpr, h, w, VEC: tl.constexpr, CHANNELS_LAST: tl.constexpr):
    """From row 0 to a row and some columns aside."""
    if CHANNELS_LAST:
        return (row.to(tl.int64) * h + shift * w) * VEC
    return row.to(tl.int64) * h + shift


@triton.jit
def gelu(x):
    """The exact GELU, in the dtype of ``x``."""
    return 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))


@triton.jit(do_not_specialize=['tiles', 'numel', 'other_tiles', 'other_numel'])
def sum_tiles_kernel(
    partial, total, other_partial, other_total,
    tiles, numel, other_tiles, other_numel,
    BLOCK_T: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """``total`` (numel), the sum of ``partial`` (tiles, numel), and the same of the others unless None.

    The order of a sum depends on nothing but ``tiles``.
    """
    program = tl.program_id(0)
    blocks = (numel + BLOCK_N - 1) // BLOCK_N
    if program < blocks:
        _sum_block(program, partial, total, tiles, numel, BLOCK_T, BLOCK_N)
    if other_partial is not None:
        if program >= blocks:
            _sum_block(program - blocks, other_partial, other_total, other_tiles, other_numel, BLOCK_T, BLOCK_N)


@triton.jit
def _sum_block(block, partial, total, tiles, numel, BLOCK_T: tl.constexpr, BLOCK_N: tl.constexpr):
    columns = block * BLOCK_N + tl.arange(0, BLOCK_N)
    sums = tl.zeros((BLOCK_T, BLOCK_N), partial.dtype.element_ty)
    for first in range(0, tiles, BLOCK_T):
        rows = first + tl.arange(0, BLOCK_T)
        pointers = partial + rows.to(tl.int64)[:, None] * numel + columns[None, :]
        sums += tl.load(pointers, mask=(rows < tiles)[:, None] & (columns < numel)[None, :], other=0)
    tl.store(total + columns, tl.sum(sums, 0).to(total.dtype.element_ty), mask=columns < numel)
