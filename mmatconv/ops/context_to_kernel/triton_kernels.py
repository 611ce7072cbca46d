"""The Triton kernels of context-to-kernel (C2K): pooling, its gradient, and from the context to the kernels.

Bins are those of torch's adaptive average: bin ``i`` of ``n`` over ``size`` pixels reaches from ``i * size // n`` to
the ceiling of ``(i + 1) * size / n``. Strips are bins over a map of a single row. Strides come in units of ``VEC`` in
channels_last, as for the operator. Nothing is atomic and every sum has a fixed order: results repeat bit by bit.
"""

import triton
import triton.language as tl

from mmatconv.ops.triton_functions import gelu, row_step, tile_offset

_MAP = ['units', 'height', 'width', 'channel_blocks', 'column_blocks', 'splits']
_STRIDES = [f'{tensor}_{axis}' for tensor in 'xy' for axis in 'bchw']


@triton.jit
def _edges(i, size, BINS: tl.constexpr):
    """First pixel of bin ``i``, and the one after its last."""
    wide = size.to(tl.int64)
    return i * wide // BINS, ((i + 1) * wide + BINS - 1) // BINS


@triton.jit
def _bins(first, last, size, BINS: tl.constexpr):
    """The first bin that pixel ``first`` lies in, and the one after the last bin that pixel ``last`` lies in."""
    return first.to(tl.int64) * BINS // size, ((last.to(tl.int64) + 1) * BINS + size - 1) // size


@triton.jit(do_not_specialize=[*_MAP, *_STRIDES[:4]])
def pool_kernel(
    x, pooled,
    units, height, width, channel_blocks, splits,
    x_b, x_c, x_h, x_w,
    ROW_BINS: tl.constexpr, COLUMN_BINS: tl.constexpr, BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr,
    VEC: tl.constexpr, CHANNELS_LAST: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """``pooled`` (splits, B, bins, C), of which the sum over the splits is the mean of each bin.

    A program sums a share of the pixels of one bin, tile by tile, so that no pixel has to look for its bin.
    """
    BINS: tl.constexpr = ROW_BINS * COLUMN_BINS
    program = tl.program_id(0)
    channel_block = program % channel_blocks
    program = program // channel_blocks
    split = program % splits
    program = program // splits
    samples = tl.num_programs(0) // (channel_blocks * splits * BINS)
    sample = (program // BINS).to(tl.int64)
    top, bottom = _edges(program % BINS // COLUMN_BINS, height, ROW_BINS)
    left, right = _edges(program % COLUMN_BINS, width, COLUMN_BINS)
    channels = channel_block * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    count = units * VEC
    tiles = ((right - left + BLOCK_W - 1) // BLOCK_W).to(tl.int32)
    steps = (bottom - top).to(tl.int32) * tiles
    share = (steps + splits - 1) // splits
    sums = tl.zeros((BLOCK_W, BLOCK_C), ACC)
    for step in range(split * share, tl.minimum((split + 1) * share, steps)):
        columns = left + step % tiles * BLOCK_W + tl.arange(0, BLOCK_W)[:, None]
        pointers = x + tile_offset(sample, columns, channels, x_b, x_c, x_w, VEC, CHANNELS_LAST)
        pointers += row_step(top + step // tiles, 0, x_h, x_w, VEC, CHANNELS_LAST)
        sums += tl.load(pointers, mask=(columns < right) & (channels < count), other=0).to(ACC)
    mean = tl.sum(sums, 0)[None, :] / ((bottom - top) * (right - left)).to(ACC)
    place = (split * samples + sample) * BINS + program % BINS
    tl.store(pooled + place * count + channels, mean.to(pooled.dtype.element_ty), mask=channels < count)


@triton.jit(do_not_specialize=[*_MAP, *_STRIDES[4:]])
def spread_kernel(
    grad, y,
    units, height, width, channel_blocks, column_blocks,
    y_b, y_c, y_h, y_w,
    ROW_BINS: tl.constexpr, COLUMN_BINS: tl.constexpr, BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr,
    VEC: tl.constexpr, CHANNELS_LAST: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """``y``, the map's gradient from ``grad`` (B, bins, C) of its pooled means.

    A program writes some columns of one row, and meets the few bins that lie across them.
    """
    program = tl.program_id(0)
    channel_block = program % channel_blocks
    program = program // channel_blocks
    column_block = program % column_blocks
    program = program // column_blocks
    row = program % height
    sample = (program // height).to(tl.int64)
    columns = column_block * BLOCK_W + tl.arange(0, BLOCK_W)[:, None]
    channels = channel_block * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    count = units * VEC
    last = tl.minimum((column_block + 1) * BLOCK_W, width) - 1
    first_row_bin, end_row_bin = _bins(row, row, height, ROW_BINS)
    first_column_bin, end_column_bin = _bins(column_block * BLOCK_W, last, width, COLUMN_BINS)
    total = tl.zeros((BLOCK_W, BLOCK_C), ACC)
    for i in range(first_row_bin, end_row_bin):
        top, bottom = _edges(i, height, ROW_BINS)
        for j in range(first_column_bin, end_column_bin):
            left, right = _edges(j, width, COLUMN_BINS)
            place = (sample * ROW_BINS + i) * COLUMN_BINS + j
            value = tl.load(grad + place * count + channels, mask=channels < count, other=0).to(ACC)
            value = value / ((bottom - top) * (right - left)).to(ACC)
            total += tl.where((columns >= left) & (columns < right), value, 0)
    pointers = y + tile_offset(sample, columns, channels, y_b, y_c, y_w, VEC, CHANNELS_LAST)
    pointers += row_step(row, 0, y_h, y_w, VEC, CHANNELS_LAST)
    tl.store(pointers, total.to(y.dtype.element_ty), mask=(columns < width) & (channels < count))


@triton.jit(do_not_specialize=['rows', 'channels', 'c_b', 'c_c', 'c_n', 'y_b', 'y_c', 'y_n'])
def generate_kernel(
    context, weight, bias, difference, y,
    rows, channels, c_b, c_c, c_n, y_b, y_c, y_n,
    POSITIONS: tl.constexpr, PADDED: tl.constexpr, BLOCK_R: tl.constexpr,
    WITH_BIAS: tl.constexpr, SIGMOID: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """``y``: GELU, the product over the positions and differential kernel modulation, a row for each sample's channel.

    The product is far too narrow for matrix units, and stays in ``ACC``.
    """
    row = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    sample = (row // channels).to(tl.int64)
    channel = (row % channels).to(tl.int64)
    position = tl.arange(0, PADDED)
    inside = position < POSITIONS
    source = context + sample * c_b + channel * c_c
    kernels = tl.zeros((BLOCK_R, PADDED), ACC)
    for i in range(POSITIONS):
        value = gelu(tl.load(source + i * c_n, mask=row < rows, other=0).to(ACC))
        factor = tl.load(weight + position * POSITIONS + i, mask=inside, other=0).to(ACC)
        kernels += value[:, None] * factor[None, :]
    if WITH_BIAS:
        kernels += tl.load(bias + position, mask=inside, other=0).to(ACC)[None, :]
    change = tl.load(difference + channel, mask=row < rows, other=0).to(ACC)
    if SIGMOID:
        change = -1.0 / (1.0 + tl.exp(-change))
    kernels += (change * tl.sum(kernels, 1) / POSITIONS)[:, None]
    pointers = y + (sample * y_b + channel * y_c)[:, None] + position[None, :] * y_n
    tl.store(pointers, kernels.to(y.dtype.element_ty), mask=(row < rows)[:, None] & inside[None, :])
