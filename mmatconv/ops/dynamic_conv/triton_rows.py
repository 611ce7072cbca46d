"""Rows of a map as the Triton kernels of the dynamic depthwise convolution hold them: a value for each of some columns.

A lane, which is a thread, owns ``COLS`` adjacent columns. In channels_last each value is (LANES, VEC), ``VEC`` adjacent
channels, and a load takes the channels of one column. In the contiguous format a lane has one channel, each value is
(LANES,), and a load takes ``VEC`` columns, which are then split. Strides come in units of ``VEC``, from which the
compiler sees that loads are aligned. Offsets are 64 bits wide.
"""
# ruff: noqa: RUF005 (Triton's tuples have no unpacking)

import triton
import triton.language as tl


@triton.jit
def row_pointers(x, sample, row, column, channel, b, c, h, w, VEC: tl.constexpr, CHANNELS_LAST: tl.constexpr):
    """(LANES,) pointers to each lane's first column of a row, from the strides of sample, channel, row and column."""
    if CHANNELS_LAST:
        return x + (sample * b + row.to(tl.int64) * h + column.to(tl.int64) * w) * VEC + channel
    return x + (sample * b + channel.to(tl.int64) * c + row.to(tl.int64) * h) * VEC + column


@triton.jit
def next_row(h, VEC: tl.constexpr):
    """From a row to the next one."""
    return h.to(tl.int64) * VEC


@triton.jit
def spread(x, VEC: tl.constexpr):
    """(LANES,) pointers to the first of ``VEC`` neighbours -> (LANES, VEC)."""
    return x[:, None] + tl.arange(0, VEC)[None, :]


@triton.jit
def load_row(
    row, column, width, w, inside, P: tl.constexpr, COLS: tl.constexpr, VEC: tl.constexpr,
    CHANNELS_LAST: tl.constexpr, CUT: tl.constexpr,
):  # fmt: skip
    """The values of a row from ``P`` columns before each lane's first to ``P`` after its last, zeros outside the map.

    Args:
        row: (LANES,) pointers to each lane's first column.
        column: (LANES,), its number.
        width: Columns that are not zero.
        w: Stride of a column in channels_last.
        inside: (LANES,), which lanes have channels, and whether the row is one of the map.
        CUT: Whether ``width`` may end within the columns of one load.
    """
    values = ()
    if CHANNELS_LAST:
        for j in tl.static_range(-P, COLS + P):
            mask = inside & (column + j < width)
            if j < 0:
                mask = mask & (column + j >= 0)
            values = values + (tl.load(spread(row + j * w.to(tl.int64) * VEC, VEC), mask=mask[:, None], other=0),)
        return values
    for j in tl.static_range(-P, 0):
        values = values + (tl.load(row + j, mask=inside & (column + j >= 0) & (column + j < width), other=0),)
    for first in tl.static_range(0, COLS, VEC):
        mask = inside & (column + first < width)
        if VEC == 1:
            values = values + (tl.load(row + first, mask=mask, other=0),)
        else:
            loaded = split(tl.load(spread(row + first, VEC), mask=mask[:, None], other=0), VEC)
            if CUT:
                loaded = zero_from(loaded, column + first, width, VEC)
            values = values + loaded
    for j in tl.static_range(COLS, COLS + P):
        values = values + (tl.load(row + j, mask=inside & (column + j < width), other=0),)
    return values


@triton.jit
def store_row(
    row, values, column, width, w, inside, COLS: tl.constexpr, VEC: tl.constexpr, CHANNELS_LAST: tl.constexpr
):
    """Write the ``COLS`` columns of a row; arguments as for :func:`load_row`."""
    dtype: tl.constexpr = row.dtype.element_ty
    if CHANNELS_LAST:
        for j in tl.static_range(COLS):
            mask = inside & (column + j < width)
            tl.store(spread(row + j * w.to(tl.int64) * VEC, VEC), values[j].to(dtype), mask=mask[:, None])
    else:
        for first in tl.static_range(0, COLS, VEC):
            mask = inside & (column + first < width)
            if VEC == 1:
                tl.store(row + first, values[first].to(dtype), mask=mask)
            else:
                joined = join(values[first : first + VEC], dtype, VEC)
                tl.store(spread(row + first, VEC), joined, mask=mask[:, None])


@triton.jit
def zero_from(values, column, width, COLS: tl.constexpr):
    """``COLS`` values of a row with zeros from column ``width`` on."""
    cut = ()
    for j in tl.static_range(COLS):
        inside = column + j < width
        if len(values[j].shape) == 2:
            inside = inside[:, None]
        cut = cut + (tl.where(inside, values[j], 0.0).to(values[j].dtype),)
    return cut


@triton.jit
def widen(values, ACC: tl.constexpr):
    """Values in the dtype of the sums."""
    wide = ()
    for k in tl.static_range(len(values)):
        if values[k].dtype == tl.bfloat16:
            # NVIDIA's conversion takes two instructions for every second number of a register, this one for each.
            bits = values[k].to(tl.uint16, bitcast=True).to(tl.uint32) << 16
            wide = wide + (bits.to(tl.float32, bitcast=True),)
        else:
            wide = wide + (values[k].to(ACC),)
    return wide


@triton.jit
def split(x, VEC: tl.constexpr):
    """(LANES, VEC) -> ``VEC`` tensors (LANES,)."""
    parts = (x,)
    LEVELS: tl.constexpr = 1 if VEC == 2 else (2 if VEC == 4 else 3)
    for level in tl.static_range(LEVELS):
        even = ()
        odd = ()
        for k in tl.static_range(2**level):
            a, b = tl.split(tl.reshape(parts[k], (x.shape[0], VEC // 2 ** (level + 1), 2)))
            even = even + (a,)
            odd = odd + (b,)
        parts = even + odd
    values = ()
    for k in tl.static_range(VEC):
        values = values + (tl.reshape(parts[k], (x.shape[0],)),)
    return values


@triton.jit
def join(values, dtype: tl.constexpr, VEC: tl.constexpr):
    """The reverse of :func:`split`, in a dtype."""
    parts = ()
    for k in tl.static_range(VEC):
        parts = parts + (tl.reshape(values[k].to(dtype), (values[k].shape[0], 1)),)
    LEVELS: tl.constexpr = 1 if VEC == 2 else (2 if VEC == 4 else 3)
    for level in tl.static_range(LEVELS):
        joined = ()
        for k in tl.static_range(VEC // 2 ** (level + 1)):
            pair = tl.join(parts[k], parts[k + VEC // 2 ** (level + 1)])
            joined = joined + (tl.reshape(pair, (values[0].shape[0], 2 ** (level + 1))),)
        parts = joined
    return parts[0]
