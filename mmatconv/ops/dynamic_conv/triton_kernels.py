"""The Triton kernels of the dynamic depthwise convolution, for both memory formats, CUDA and ROCm.

One program owns some columns and channels of one sample (``triton_rows.py``) and walks down a strip of its rows. A row
that is read goes to the K rows of results it touches: K - 1 of them are carried, one is complete and written. The
next row is loaded before that, so that its way from memory hides behind the arithmetic. Masks of columns and channels
do not change on the way. Sums are in ``ACC``, nothing is atomic: results repeat bit by bit.
"""
# ruff: noqa: RUF005 (Triton's tuples have no unpacking)

import triton
import triton.language as tl

from mmatconv.ops.dynamic_conv.triton_rows import load_row, next_row, row_pointers, spread, store_row, widen, zero_from

# Sizes change from image to image in detection: no kernel is compiled anew because one happens to divide by 16.
_SIZES = ['units', 'height', 'width', 'channel_blocks', 'column_blocks', 'strips', 'rows']
_STRIDES = [f'{tensor}_{axis}' for tensor in 'gxy' for axis in 'bchw']


@triton.jit
def _locate(
    channel_blocks, column_blocks, strips, COLS: tl.constexpr, BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr,
    VEC: tl.constexpr, CHANNELS_LAST: tl.constexpr,
):  # fmt: skip
    """Sample, strip, blocks of columns and channels of this program, first column and channel of its lanes."""
    program = tl.program_id(0)
    lane = tl.arange(0, BLOCK_W * BLOCK_C)
    # Programs that run together, and lanes side by side, are neighbours in memory.
    if CHANNELS_LAST:
        channel_block = program % channel_blocks
        program = program // channel_blocks
        column_block = program % column_blocks
        program = program // column_blocks
        strip = program % strips
        sample = program // strips
        column = (column_block * BLOCK_W + lane // BLOCK_C) * COLS
        channel = (channel_block * BLOCK_C + lane % BLOCK_C) * VEC
    else:
        column_block = program % column_blocks
        program = program // column_blocks
        strip = program % strips
        program = program // strips
        channel_block = program % channel_blocks
        sample = program // channel_blocks
        column = (column_block * BLOCK_W + lane % BLOCK_W) * COLS
        channel = channel_block * BLOCK_C + lane // BLOCK_W
    return sample.to(tl.int64), strip, column_block, channel_block, column, channel


@triton.jit
def _weights(kernel, sample, channel, channels, K: tl.constexpr, VEC: tl.constexpr, CHANNELS_LAST: tl.constexpr):
    """The K * K entries of each lane's kernels, which are dense in the memory format of the map."""
    entries = ()
    start = kernel + sample * channels * (K * K)
    for k in tl.static_range(K * K):
        if CHANNELS_LAST:
            pointers = spread(start + k * channels + channel, VEC)
            entry = tl.load(pointers, mask=(channel < channels)[:, None], other=0)
        else:
            entry = tl.load(start + channel * (K * K) + k, mask=channel < channels, other=0)
        entries = entries + (entry,)
    return entries


@triton.jit
def _store_sums(
    partial, sums, channel_block, channels, K: tl.constexpr, BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr,
    VEC: tl.constexpr, CHANNELS_LAST: tl.constexpr,
):  # fmt: skip
    """Add up the lanes of each channel and write the K * K sums as the kernels lie."""
    for k in tl.static_range(K * K):
        if CHANNELS_LAST:
            total = tl.sum(tl.reshape(sums[k], (BLOCK_W, BLOCK_C * VEC)), 0)
            channel = channel_block * BLOCK_C * VEC + tl.arange(0, BLOCK_C * VEC)
            pointers = partial + k * channels + channel
        else:
            total = tl.sum(tl.reshape(sums[k], (BLOCK_C, BLOCK_W)), 1)
            channel = channel_block * BLOCK_C + tl.arange(0, BLOCK_C)
            pointers = partial + channel * (K * K) + k
        tl.store(pointers, total, mask=channel < channels)


@triton.jit(do_not_specialize=[name for name in (*_SIZES, *_STRIDES) if name[:2] != 'g_'])
def convolve_kernel(
    x, sizes, kernel, y,
    units, height, width, channel_blocks, column_blocks, strips, rows,
    x_b, x_c, x_h, x_w, y_b, y_c, y_h, y_w,
    K: tl.constexpr, FLIP: tl.constexpr, WITH_SIZES: tl.constexpr, COLS: tl.constexpr, BLOCK_W: tl.constexpr,
    BLOCK_C: tl.constexpr, VEC: tl.constexpr, CHANNELS_LAST: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """``y``, the dynamic depthwise convolution of ``x``.

    With FLIP each kernel is turned by 180 degrees, and padding is zero in ``y`` instead of ``x``: that takes the
    output's gradient to the input's.
    """
    _stream(
        x, x, sizes, kernel, y, y,
        units, height, width, channel_blocks, column_blocks, strips, rows,
        x_b, x_c, x_h, x_w, x_b, x_c, x_h, x_w, y_b, y_c, y_h, y_w,
        K, FLIP, True, False, WITH_SIZES, COLS, BLOCK_W, BLOCK_C, VEC, CHANNELS_LAST, ACC,
    )  # fmt: skip


@triton.jit(do_not_specialize=[*_SIZES, *_STRIDES])
def gradients_kernel(
    g, x, sizes, kernel, y, partial,
    units, height, width, channel_blocks, column_blocks, strips, rows,
    g_b, g_c, g_h, g_w, x_b, x_c, x_h, x_w, y_b, y_c, y_h, y_w,
    K: tl.constexpr, WITH_INPUT: tl.constexpr, WITH_SIZES: tl.constexpr, COLS: tl.constexpr, BLOCK_W: tl.constexpr,
    BLOCK_C: tl.constexpr, VEC: tl.constexpr, CHANNELS_LAST: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Both gradients from one reading of the output's gradient ``g`` and the input ``x``.

    The input's gradient goes to ``y``, unless WITH_INPUT is false. The kernel's gradient, summed over a strip, goes to
    this tile's place in ``partial``: (strips * column_blocks, B, ...) and then as the kernel lies.
    """
    _stream(
        g, x, sizes, kernel, y, partial,
        units, height, width, channel_blocks, column_blocks, strips, rows,
        g_b, g_c, g_h, g_w, x_b, x_c, x_h, x_w, y_b, y_c, y_h, y_w,
        K, True, WITH_INPUT, True, WITH_SIZES, COLS, BLOCK_W, BLOCK_C, VEC, CHANNELS_LAST, ACC,
    )  # fmt: skip


@triton.jit
def _stream(
    g, x, sizes, kernel, y, partial,
    units, height, width, channel_blocks, column_blocks, strips, rows,
    g_b, g_c, g_h, g_w, x_b, x_c, x_h, x_w, y_b, y_c, y_h, y_w,
    K: tl.constexpr, FLIP: tl.constexpr, WITH_MAP: tl.constexpr, WITH_KERNEL: tl.constexpr, WITH_SIZES: tl.constexpr,
    COLS: tl.constexpr, BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr, VEC: tl.constexpr, CHANNELS_LAST: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """Walk down a strip: ``y`` is what the kernels make of ``g``, ``partial`` the sums of ``g`` times ``x``.

    ``sizes`` (B, 2) are height and width from which on the input counts as zero: ``g`` without FLIP, else ``x``, and
    ``y`` is its gradient.
    """
    P: tl.constexpr = K // 2
    INPUT_CUT: tl.constexpr = WITH_SIZES and not FLIP
    GRADIENT_CUT: tl.constexpr = WITH_SIZES and FLIP
    sample, strip, column_block, channel_block, column, channel = _locate(
        channel_blocks, column_blocks, strips, COLS, BLOCK_W, BLOCK_C, VEC, CHANNELS_LAST
    )
    channels = units * VEC if CHANNELS_LAST else units
    own = channel < channels
    first = strip * rows
    last = tl.minimum(first + rows, height)
    # The rows of g that reach those of the strip.
    begin = tl.maximum(first - P, 0)
    end = tl.minimum(last + P, height)
    valid_height = height
    valid_width = width
    if WITH_SIZES:
        valid_height = tl.minimum(tl.load(sizes + 2 * sample), height)
        valid_width = tl.minimum(tl.load(sizes + 2 * sample + 1), width)
    g_height = valid_height if INPUT_CUT else height
    g_width = valid_width if INPUT_CUT else width
    x_last = tl.minimum(last, valid_height)

    g_row = row_pointers(g, sample, begin, column, channel, g_b, g_c, g_h, g_w, VEC, CHANNELS_LAST)
    ahead = load_row(g_row, column, g_width, g_w, own & (begin < g_height), P, COLS, VEC, CHANNELS_LAST, INPUT_CUT)
    values = widen(ahead, ACC)
    if WITH_MAP:
        weights = widen(_weights(kernel, sample, channel, channels, K, VEC, CHANNELS_LAST), ACC)
        y_row = row_pointers(y, sample, begin - P, column, channel, y_b, y_c, y_h, y_w, VEC, CHANNELS_LAST)
        pending = (tl.zeros_like(values[0]),) * ((K - 1) * COLS)
    if WITH_KERNEL:
        sums = (tl.zeros_like(values[0]),) * (K * K)
        x_row = row_pointers(x, sample, begin - P, column, channel, x_b, x_c, x_h, x_w, VEC, CHANNELS_LAST)
        window = ()
        for t in tl.static_range(K):
            inside = own & (begin - P + t >= first) & (begin - P + t < x_last)
            loaded = load_row(x_row, column, valid_width, x_w, inside, 0, COLS, VEC, CHANNELS_LAST, GRADIENT_CUT)
            window = window + widen(loaded, ACC)
            x_row += next_row(x_h, VEC)

    for row in range(begin, end):
        # The last row is read twice: that takes no mask, and zeros instead of it would take registers.
        g_row += tl.where(row + 1 < end, next_row(g_h, VEC), 0)
        inside = own
        if INPUT_CUT:
            inside = own & (row + 1 < g_height)
        ahead = load_row(g_row, column, g_width, g_w, inside, P, COLS, VEC, CHANNELS_LAST, INPUT_CUT)
        if WITH_KERNEL:
            inside = own & (row + P + 1 < x_last)
            entering = load_row(x_row, column, valid_width, x_w, inside, 0, COLS, VEC, CHANNELS_LAST, GRADIENT_CUT)
            x_row += next_row(x_h, VEC)
        if WITH_MAP:
            results = ()
            # Row ``row - P + u`` of the results, which begins with this row if u is K - 1 and is complete if u is 0.
            for u in tl.static_range(K):
                for c in tl.static_range(COLS):
                    result = pending[u * COLS + c] if u < K - 1 else tl.zeros_like(values[0])
                    for v in tl.static_range(K):
                        weight = weights[u * K + K - 1 - v] if FLIP else weights[(K - 1 - u) * K + v]
                        result += values[c + v] * weight
                    results = results + (result,)
            complete = results[:COLS]
            pending = results[COLS:]
            if GRADIENT_CUT:
                complete = zero_from(complete, column, tl.where(row - P < valid_height, valid_width, 0), COLS)
            store_row(y_row, complete, column, width, y_w, own & (row - P >= first), COLS, VEC, CHANNELS_LAST)
            y_row += next_row(y_h, VEC)
        if WITH_KERNEL:
            added = ()
            for k in tl.static_range(K * K):
                total = sums[k]
                for c in tl.static_range(COLS):
                    total += values[c + K - 1 - k % K] * window[k // K * COLS + c]
                added = added + (total,)
            sums = added
            window = window[COLS:] + widen(entering, ACC)
        values = widen(ahead, ACC)

    if WITH_MAP:
        # Below the map nothing more is added to the rows that are carried.
        for t in tl.static_range(P):
            row = end - P + t
            complete = pending[t * COLS : (t + 1) * COLS]
            if GRADIENT_CUT:
                complete = zero_from(complete, column, tl.where(row < valid_height, valid_width, 0), COLS)
            inside = own & (row >= first) & (row < last)
            store_row(y_row, complete, column, width, y_w, inside, COLS, VEC, CHANNELS_LAST)
            y_row += next_row(y_h, VEC)
    if WITH_KERNEL:
        samples = tl.num_programs(0) // (strips * column_blocks * channel_blocks)
        tile = (strip * column_blocks + column_block).to(tl.int64)
        start = partial + (tile * samples + sample) * channels * (K * K)
        _store_sums(start, sums, channel_block, channels, K, BLOCK_W, BLOCK_C, VEC, CHANNELS_LAST)
