"""The Triton kernels of the dynamic depthwise convolution, for both memory formats, CUDA and ROCm.

One program owns ``BLOCK_W`` columns and ``BLOCK_C`` channels of one sample, and walks down its rows in groups of
``ROWS``. Each row it reads is loaded once for each of the K column shifts and goes to every row of results it touches:
``K * (ROWS + K - 1) / ROWS`` loads for a result instead of ``K * K``. All but the number of groups is static, so that
the loads of a whole group are in flight together.

Which side of the (BLOCK_W, BLOCK_C) tile lies innermost in memory the compiler sees from the stride that is literally
1, and it lays the threads out along it. In channels_last, strides and the number of channels come in units of ``VEC``:
that tells it that loads of so many channels at once are aligned. Offsets are 64 bits wide, sums are in ``ACC``, nothing
is atomic: results repeat bit by bit.
"""
# ruff: noqa: RUF005 (Triton's tuples have no unpacking)

import triton
import triton.language as tl

from mmatconv.ops.triton_functions import row_step, tile_offset

# Sizes change from image to image in detection: no kernel is compiled anew because one happens to divide by 16.
_SIZES = ['units', 'height', 'width', 'channel_blocks', 'column_blocks', 'strips']
_STRIDES = [f'{tensor}_{axis}' for tensor in 'xyg' for axis in 'bchw']


@triton.jit
def _add(values, index: tl.constexpr, term):
    """The tuple with ``term`` added to one of its tensors."""
    return values[:index] + (values[index] + term,) + values[index + 1 :]


@triton.jit
def _locate(
    channel_blocks, column_blocks, strips, BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr, CHANNELS_LAST: tl.constexpr
):
    """Sample, strip of rows, block of columns, columns (BLOCK_W, 1) and channels (1, BLOCK_C) of this program."""
    program = tl.program_id(0)
    # Programs that run together are neighbours in memory.
    if CHANNELS_LAST:
        channel_block = program % channel_blocks
        program = program // channel_blocks
        column_block = program % column_blocks
        program = program // column_blocks
        strip = program % strips
        sample = program // strips
    else:
        column_block = program % column_blocks
        program = program // column_blocks
        strip = program % strips
        program = program // strips
        channel_block = program % channel_blocks
        sample = program // channel_blocks
    columns = column_block * BLOCK_W + tl.arange(0, BLOCK_W)[:, None]
    channels = channel_block * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    return sample.to(tl.int64), strip, column_block, columns, channels


@triton.jit
def _entry(start, k: tl.constexpr, channels, count, K: tl.constexpr, CHANNELS_LAST: tl.constexpr):
    """Pointers (1, BLOCK_C) to entry k of the kernels, which are dense in the memory format of the map."""
    if CHANNELS_LAST:
        return start + k * count + channels
    return start + channels * (K * K) + k


@triton.jit
def _weights(kernel, sample, channels, count, K: tl.constexpr, CHANNELS_LAST: tl.constexpr, ACC: tl.constexpr):
    """The K * K entries of the kernels, each (1, BLOCK_C)."""
    weights = ()
    start = kernel + sample * count * (K * K)
    for k in tl.static_range(K * K):
        entry = tl.load(_entry(start, k, channels, count, K, CHANNELS_LAST), mask=channels < count, other=0)
        weights = weights + (entry.to(ACC),)
    return weights


@triton.jit(do_not_specialize=[name for name in (*_SIZES, *_STRIDES) if name[:2] != 'g_'])
def convolve_kernel(
    x, kernel, y,
    units, height, width, channel_blocks, column_blocks, strips,
    x_b, x_c, x_h, x_w, y_b, y_c, y_h, y_w,
    K: tl.constexpr, FLIP: tl.constexpr, ROWS: tl.constexpr, BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr,
    VEC: tl.constexpr, CHANNELS_LAST: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """``y``, the dynamic depthwise convolution of ``x``.

    With FLIP each kernel is turned by 180 degrees: that takes the output's gradient to the input's. A strip is one
    group of rows.
    """
    sample, strip, _, columns, channels = _locate(
        channel_blocks, column_blocks, strips, BLOCK_W, BLOCK_C, CHANNELS_LAST
    )
    count = units * VEC
    weights = _weights(kernel, sample, channels, count, K, CHANNELS_LAST, ACC)
    x_tile = x + tile_offset(sample, columns, channels, x_b, x_c, x_w, VEC, CHANNELS_LAST)
    y_tile = y + tile_offset(sample, columns, channels, y_b, y_c, y_w, VEC, CHANNELS_LAST)
    first = strip * ROWS
    results = (tl.zeros((BLOCK_W, BLOCK_C), ACC),) * ROWS
    for i in tl.static_range(ROWS + K - 1):
        row = first + i - K // 2
        inside = (row >= 0) & (row < height) & (channels < count)
        for v in tl.static_range(K):
            column = columns + (v - K // 2)
            pointers = x_tile + row_step(row, v - K // 2, x_h, x_w, VEC, CHANNELS_LAST)
            value = tl.load(pointers, mask=inside & (column >= 0) & (column < width), other=0).to(ACC)
            for u in tl.static_range(K):
                if i - u >= 0 and i - u < ROWS:
                    weight = weights[K * K - 1 - u * K - v] if FLIP else weights[u * K + v]
                    results = _add(results, i - u, value * weight)
    own = (columns < width) & (channels < count)
    for r in tl.static_range(ROWS):
        row = first + r
        pointers = y_tile + row_step(row, 0, y_h, y_w, VEC, CHANNELS_LAST)
        tl.store(pointers, results[r].to(y.dtype.element_ty), mask=own & (row < height))


@triton.jit(do_not_specialize=['groups', *_SIZES, *_STRIDES])
def gradients_kernel(
    g, x, kernel, y, partial,
    units, height, width, channel_blocks, column_blocks, strips, groups,
    g_b, g_c, g_h, g_w, x_b, x_c, x_h, x_w, y_b, y_c, y_h, y_w,
    K: tl.constexpr, WITH_INPUT: tl.constexpr, ROWS: tl.constexpr, BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr,
    VEC: tl.constexpr, CHANNELS_LAST: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Both gradients from one reading of the output's gradient ``g`` and the input ``x``.

    The input's gradient goes to ``y``, unless WITH_INPUT is false. The kernel's gradient, summed over ``groups`` groups
    of rows, goes to this tile's place in ``partial``: (strips * column_blocks, B, ...) and then as the kernel lies.
    """
    sample, strip, column_block, columns, channels = _locate(
        channel_blocks, column_blocks, strips, BLOCK_W, BLOCK_C, CHANNELS_LAST
    )
    count = units * VEC
    if WITH_INPUT:
        weights = _weights(kernel, sample, channels, count, K, CHANNELS_LAST, ACC)
    g_tile = g + tile_offset(sample, columns, channels, g_b, g_c, g_w, VEC, CHANNELS_LAST)
    x_tile = x + tile_offset(sample, columns, channels, x_b, x_c, x_w, VEC, CHANNELS_LAST)
    y_tile = y + tile_offset(sample, columns, channels, y_b, y_c, y_w, VEC, CHANNELS_LAST)
    own = (columns < width) & (channels < count)
    sums = (tl.zeros((BLOCK_W, BLOCK_C), ACC),) * (K * K)
    for group in range(strip * groups, (strip + 1) * groups):
        first = group * ROWS
        inputs = ()
        for r in tl.static_range(ROWS):
            row = first + r
            pointers = x_tile + row_step(row, 0, x_h, x_w, VEC, CHANNELS_LAST)
            inputs = inputs + (tl.load(pointers, mask=own & (row < height), other=0).to(ACC),)
        results = (tl.zeros((BLOCK_W, BLOCK_C), ACC),) * ROWS
        for i in tl.static_range(ROWS + K - 1):
            row = first + i - K // 2
            inside = (row >= 0) & (row < height) & (channels < count)
            for v in tl.static_range(K):
                column = columns + (K // 2 - v)
                pointers = g_tile + row_step(row, K // 2 - v, g_h, g_w, VEC, CHANNELS_LAST)
                value = tl.load(pointers, mask=inside & (column >= 0) & (column < width), other=0).to(ACC)
                for r in tl.static_range(ROWS):
                    # Row r of the input met this row of the gradient in row u of the kernel, u = r - i + K - 1.
                    if r - i + K - 1 >= 0 and r - i < 1:
                        sums = _add(sums, (r - i + K - 1) * K + v, value * inputs[r])
                        if WITH_INPUT:
                            results = _add(results, r, value * weights[(r - i + K - 1) * K + v])
        if WITH_INPUT:
            for r in tl.static_range(ROWS):
                row = first + r
                pointers = y_tile + row_step(row, 0, y_h, y_w, VEC, CHANNELS_LAST)
                tl.store(pointers, results[r].to(y.dtype.element_ty), mask=own & (row < height))
    samples = tl.num_programs(0) // (strips * column_blocks * channel_blocks)
    tile = (strip * column_blocks + column_block).to(tl.int64)
    start = partial + (tile * samples + sample) * count * (K * K)
    for k in tl.static_range(K * K):
        pointers = _entry(start, k, channels, count, K, CHANNELS_LAST)
        tl.store(pointers, tl.sum(sums[k], 0)[None, :], mask=channels < count)
