"""The Triton kernels of the pooling of context-to-kernel (C2K) and of its gradient.

Bins are those of torch's adaptive average: bin ``i`` of ``n`` over ``size`` pixels reaches from ``i * size // n`` to
the ceiling of ``(i + 1) * size / n``. Strips are bins over a map of a single row. Strides come in units of ``VEC`` in
channels_last, as for the operator. Nothing is atomic and every sum has a fixed order: results repeat bit by bit.

With ``sizes`` (B, 2) the bins lie over the valid rows and columns of each map alone. Strips then are runs of its valid
pixels, which do not lie side by side, and each pixel looks for its row and column.
"""

import triton
import triton.language as tl

from mmatconv.ops.triton_functions import row_step, tile_offset

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


@triton.jit
def _valid(sizes, sample, height, width, WITH_SIZES: tl.constexpr):
    """Height and width of a map without its padding."""
    if WITH_SIZES:
        return tl.load(sizes + 2 * sample), tl.load(sizes + 2 * sample + 1)
    return height, width


@triton.jit
def _as_binned(height, width, RUNS: tl.constexpr):
    """Height and width of a map as its bins see it: one row if they are runs."""
    if RUNS:
        return tl.full((), 1, tl.int32), height * width
    return height, width


@triton.jit(do_not_specialize=[*_MAP, *_STRIDES[:4]])
def pool_kernel(
    x, sizes, pooled,
    units, height, width, channel_blocks, splits,
    x_b, x_c, x_h, x_w,
    ROW_BINS: tl.constexpr, COLUMN_BINS: tl.constexpr, WITH_SIZES: tl.constexpr, RUNS: tl.constexpr,
    BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr, VEC: tl.constexpr, CHANNELS_LAST: tl.constexpr, ACC: tl.constexpr,
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
    height, width = _valid(sizes, sample, height, width, WITH_SIZES)
    bin_height, bin_width = _as_binned(height, width, RUNS)
    top, bottom = _edges(program % BINS // COLUMN_BINS, bin_height, ROW_BINS)
    left, right = _edges(program % COLUMN_BINS, bin_width, COLUMN_BINS)
    channels = channel_block * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    count = units * VEC
    tiles = ((right - left + BLOCK_W - 1) // BLOCK_W).to(tl.int32)
    steps = (bottom - top).to(tl.int32) * tiles
    share = (steps + splits - 1) // splits
    sums = tl.zeros((BLOCK_W, BLOCK_C), ACC)
    for step in range(split * share, tl.minimum((split + 1) * share, steps)):
        places = left + step % tiles * BLOCK_W + tl.arange(0, BLOCK_W)[:, None]
        row, columns = top + step // tiles, places
        if RUNS:
            # A division of 64 bits costs a GPU several times that of 32.
            row = places.to(tl.int32) // width
            columns = places.to(tl.int32) - row * width
        pointers = x + tile_offset(sample, columns, channels, x_b, x_c, x_w, VEC, CHANNELS_LAST)
        pointers += row_step(row, 0, x_h, x_w, VEC, CHANNELS_LAST)
        sums += tl.load(pointers, mask=(places < right) & (channels < count), other=0).to(ACC)
    mean = tl.sum(sums, 0)[None, :] / ((bottom - top) * (right - left)).to(ACC)
    place = (split * samples + sample) * BINS + program % BINS
    tl.store(pooled + place * count + channels, mean.to(pooled.dtype.element_ty), mask=channels < count)


@triton.jit(do_not_specialize=[*_MAP, *_STRIDES[4:]])
def spread_kernel(
    grad, sizes, grad_map, y,
    units, height, width, channel_blocks, column_blocks,
    y_b, y_c, y_h, y_w,
    ROW_BINS: tl.constexpr, COLUMN_BINS: tl.constexpr, WITH_SIZES: tl.constexpr, RUNS: tl.constexpr,
    BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr, VEC: tl.constexpr, CHANNELS_LAST: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """``y``, the map's gradient from ``grad`` (B, bins, C) of its pooled means, and ``grad_map`` unless None.

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
    valid_height, valid_width = _valid(sizes, sample, height, width, WITH_SIZES)
    bin_height, bin_width = _as_binned(valid_height, valid_width, RUNS)
    left_end = column_block * BLOCK_W
    right_end = tl.minimum(left_end + BLOCK_W, valid_width) - 1
    bin_row, begin = row, tl.full((), 0, tl.int32)
    if RUNS:
        bin_row, begin = begin, row * valid_width
    places = begin + columns
    first_row_bin, end_row_bin = _bins(bin_row, bin_row, bin_height, ROW_BINS)
    first_column_bin, end_column_bin = _bins(begin + left_end, begin + right_end, bin_width, COLUMN_BINS)
    if WITH_SIZES:
        end_row_bin = tl.where((row < valid_height) & (left_end < valid_width), end_row_bin, first_row_bin)
    offsets = tile_offset(sample, columns, channels, y_b, y_c, y_w, VEC, CHANNELS_LAST)
    offsets += row_step(row, 0, y_h, y_w, VEC, CHANNELS_LAST)
    own = (columns < width) & (channels < count)
    total = tl.zeros((BLOCK_W, BLOCK_C), ACC)
    if grad_map is not None:
        total += tl.load(grad_map + offsets, mask=own, other=0).to(ACC)
    for i in range(first_row_bin, end_row_bin):
        top, bottom = _edges(i, bin_height, ROW_BINS)
        for j in range(first_column_bin, end_column_bin):
            left, right = _edges(j, bin_width, COLUMN_BINS)
            place = (sample * ROW_BINS + i) * COLUMN_BINS + j
            value = tl.load(grad + place * count + channels, mask=channels < count, other=0).to(ACC)
            value = value / ((bottom - top) * (right - left)).to(ACC)
            total += tl.where((places >= left) & (places < right) & (columns < valid_width), value, 0)
    tl.store(y + offsets, total.to(y.dtype.element_ty), mask=own)
