"""The Triton kernels of a gated linear unit whose gate is a 3x3 depthwise convolution, and their gradients.

Maps are (B, H, W, D), dense but for the stride from pixel to pixel: gate ``g`` and value ``x`` are halves of one map,
and so are their gradients. A program owns ``BLOCK_W`` columns and ``BLOCK_C``
channels of a strip of rows and walks down it: each row that it reads goes to the sums of the three rows of results that
it touches, and the next row is on its way before a result is stored. Channels from ``hidden`` on are padding: their
weights count as zero.

Numbers of channels and strides come in units of ``VEC``, which tells the compiler that loads of so many channels are
aligned. Offsets are 64 bits wide, sums are in ``ACC``, nothing is atomic: results repeat bit by bit.
"""

import triton
import triton.language as tl

from mmatconv.ops.glu.triton_gelu import gelu_and_slope

_SIZES = ['units', 'hidden', 'height', 'width', 'channel_blocks', 'column_blocks', 'strips', 'rows']


@triton.jit
def _tile(channel_blocks, column_blocks, strips, rows, height, BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr):
    """Sample, first and last row (exclusive), columns (BLOCK_W, 1), channels (1, BLOCK_C), both blocks and the strip.

    Programs that run together are neighbours in memory.
    """
    program = tl.program_id(0)
    channel_block = program % channel_blocks
    program = program // channel_blocks
    column_block = program % column_blocks
    program = program // column_blocks
    first = program % strips * rows
    columns = column_block * BLOCK_W + tl.arange(0, BLOCK_W)[:, None]
    channels = channel_block * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    return (program // strips).to(tl.int64), first, tl.minimum(first + rows, height), columns, channels


@triton.jit
def _valid(sizes, sample, height, width):
    """Height and width of a sample without its padding."""
    if sizes is not None:
        height = tl.minimum(tl.load(sizes + 2 * sample).to(tl.int32), height)
        width = tl.minimum(tl.load(sizes + 2 * sample + 1).to(tl.int32), width)
    return height, width


@triton.jit
def _weights(weight, channels, hidden, ACC: tl.constexpr):
    """The nine weights of each channel, each (1, BLOCK_C)."""
    weights = ()
    for k in tl.static_range(9):
        weights = weights + (tl.load(weight + channels * 9 + k, mask=channels < hidden, other=0).to(ACC),)  # noqa: RUF005
    return weights


@triton.jit
def _neighbours(columns, width, inside):
    """Which numbers of the column before, of the own and of the next one lie on the map."""
    return inside & (columns >= 1) & (columns <= width), inside & (columns < width), inside & (columns + 1 < width)


@triton.jit
def _row(pointers, step, inside, masks):
    """One row of a map as the three columns read it, zero outside."""
    return (
        tl.load(pointers - step, mask=masks[0] & inside, other=0),
        tl.load(pointers, mask=masks[1] & inside, other=0),
        tl.load(pointers + step, mask=masks[2] & inside, other=0),
    )


@triton.jit
def _first_rows(pointers, width, step, first, bottom, masks):
    """The rows above a strip, its first and its second one, of a map that ends at row ``bottom``."""
    return (
        _row(pointers - width * step, step, (first >= 1) & (first <= bottom), masks),
        _row(pointers, step, first < bottom, masks),
        _row(pointers + width * step, step, first + 1 < bottom, masks),
    )


@triton.jit
def _wide(row, ACC: tl.constexpr):
    return row[0].to(ACC), row[1].to(ACC), row[2].to(ACC)


@triton.jit
def _add(total, row, weights, u: tl.constexpr, FLIP: tl.constexpr):
    """``total`` and what a row adds through row ``u`` of the weights, from right to left with FLIP."""
    for v in tl.static_range(3):
        total += row[v] * weights[3 * u + (2 - v if FLIP else v)]
    return total


@triton.jit(do_not_specialize=[*_SIZES, 'g_w'])
def conv_gate_kernel(
    g, x, weight, bias, sizes, y, squares,
    units, hidden, height, width, channel_blocks, column_blocks, strips, rows, g_w,
    BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr, VEC: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """``y = gelu(convolution of g) * x``, its squares summed to ``squares`` (channel blocks, B, H, W) unless None."""
    sample, first, end, columns, channels = _tile(channel_blocks, column_blocks, strips, rows, height, BLOCK_W, BLOCK_C)
    bottom, side = _valid(sizes, sample, height, width)
    bottom = tl.minimum(bottom, end + 1)
    known = channels < units * VEC
    masks = _neighbours(columns, side, known)
    own = known & (columns < width)
    weights = _weights(weight, channels, hidden, ACC)
    biases = tl.load(bias + channels, mask=channels < hidden, other=0).to(ACC)
    pixels = (sample * height + first) * width + columns
    g_step = g_w.to(tl.int64) * VEC
    y_step = units.to(tl.int64) * VEC
    g_at = g + pixels * g_step + channels
    x_at = x + pixels * g_step + channels
    y_at = y + pixels * y_step + channels
    above, here, below = _first_rows(g_at, width, g_step, first, bottom, masks)
    above = _wide(above, ACC)
    here = _wide(here, ACC)
    value = tl.load(x_at, mask=own & (first < end), other=0)
    zero = tl.zeros((BLOCK_W, BLOCK_C), ACC) + biases
    result = _add(_add(zero, above, weights, 0, False), here, weights, 1, False)
    following = _add(zero, here, weights, 0, False)
    g_at += 2 * width * g_step
    if squares is not None:
        samples = tl.num_programs(0) // (strips * column_blocks * channel_blocks)
        channel_block = (tl.program_id(0) % channel_blocks).to(tl.int64)
        squares_at = squares + channel_block * samples * height * width + pixels
    for row in range(first, end):
        wide = _wide(below, ACC)
        gate = value.to(ACC)
        below = _row(g_at, g_step, row + 2 < bottom, masks)
        x_at += width * g_step
        value = tl.load(x_at, mask=own & (row + 1 < end), other=0)
        result = _add(result, wide, weights, 2, False)
        activated, _ = gelu_and_slope(result, False)
        product = activated * gate
        tl.store(y_at, product.to(y.dtype.element_ty), mask=own)
        if squares is not None:
            tl.store(squares_at, tl.sum(product * product, 1)[:, None], mask=columns < width)
            squares_at += width
        result = _add(following, wide, weights, 1, False)
        following = _add(zero, wide, weights, 0, False)
        g_at += width * g_step
        y_at += width * y_step


@triton.jit(do_not_specialize=['pixels', 'hidden', 'blocks'])
def scale_kernel(
    squares, scale, pixels, hidden, blocks, EPS: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_B: tl.constexpr
):
    """``scale = 1 / sqrt(mean(y ** 2) + eps)`` of each pixel from its sums of squares over blocks of channels."""
    pixel = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)[None, :]
    block = tl.arange(0, BLOCK_B)[:, None]
    sums = tl.load(squares + block * pixels.to(tl.int64) + pixel, mask=(block < blocks) & (pixel < pixels), other=0)
    mean = tl.sum(sums, 0)[None, :] / hidden.to(scale.dtype.element_ty)
    tl.store(scale + pixel, 1.0 / tl.sqrt(mean + EPS), mask=pixel < pixels)


@triton.jit
def _add_products(sums, p, row, u: tl.constexpr):
    """The sums of row ``u`` of the weights with what a row of the input adds through ``p``."""
    return sums[3 * u] + p * row[0], sums[3 * u + 1] + p * row[1], sums[3 * u + 2] + p * row[2]


@triton.jit(do_not_specialize=[*_SIZES, 'g_w', 'd_w'])
def conv_gate_gradients_kernel(
    g, x, weight, bias, sizes, grad, scale, grad_scale, z, p, partial,
    units, hidden, height, width, channel_blocks, column_blocks, strips, rows, g_w, d_w,
    BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr, VEC: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Gradients ``z`` of the value ``x``, ``p`` of the convolution's output, computed again, and those of its weights.

    ``grad`` is the product's, ``grad_scale`` the scale's: ``d scale / d product = -scale ** 3 / hidden * product``.
    Sums over the tile go to its place in ``partial`` (B * strips * column blocks, 11 * hidden): of ``z`` for each
    channel, the gradients of its nine weights, that of its bias.
    """
    sample, first, end, columns, channels = _tile(channel_blocks, column_blocks, strips, rows, height, BLOCK_W, BLOCK_C)
    bottom, side = _valid(sizes, sample, height, width)
    bottom = tl.minimum(bottom, end + 1)
    known = channels < units * VEC
    masks = _neighbours(columns, side, known)
    own = known & (columns < width)
    weights = _weights(weight, channels, hidden, ACC)
    biases = tl.load(bias + channels, mask=channels < hidden, other=0).to(ACC)
    pixels = (sample * height + first) * width + columns
    g_step = g_w.to(tl.int64) * VEC
    d_step = d_w.to(tl.int64) * VEC
    p_step = units.to(tl.int64) * VEC
    g_at = g + pixels * g_step + channels
    x_at = x + pixels * g_step + channels
    d_at = grad + pixels * d_step + channels
    z_at = z + pixels * (2 * p_step) + channels
    p_at = p + pixels * p_step + channels
    above, here, below = _first_rows(g_at, width, g_step, first, bottom, masks)
    above = _wide(above, ACC)
    here = _wide(here, ACC)
    value = tl.load(x_at, mask=own & (first < end), other=0)
    incoming = tl.load(d_at, mask=own & (first < end), other=0)
    if scale is not None:
        share = 1.0 / hidden.to(ACC)
        root = tl.load(scale + pixels, mask=columns < width, other=0)
        along = tl.load(grad_scale + pixels, mask=columns < width, other=0) * share
    zero = tl.zeros((BLOCK_W, BLOCK_C), ACC)
    value_sum = zero
    sums = (zero, zero, zero, zero, zero, zero, zero, zero, zero)
    bias_sum = zero
    g_at += 2 * width * g_step
    for row in range(first, end):
        wide = _wide(below, ACC)
        factor = value.to(ACC)
        total = incoming.to(ACC)
        below = _row(g_at, g_step, row + 2 < bottom, masks)
        x_at += width * g_step
        d_at += width * d_step
        value = tl.load(x_at, mask=own & (row + 1 < end), other=0)
        incoming = tl.load(d_at, mask=own & (row + 1 < end), other=0)
        result = _add(_add(zero + biases, above, weights, 0, False), here, weights, 1, False)
        activated, slope = gelu_and_slope(_add(result, wide, weights, 2, False), True)
        if scale is not None:
            total -= along * root * root * root * activated * factor
            pixels += width
            root = tl.load(scale + pixels, mask=(columns < width) & (row + 1 < end), other=0)
            along = tl.load(grad_scale + pixels, mask=(columns < width) & (row + 1 < end), other=0) * share
        for_value = total * activated
        for_output = total * factor * slope
        tl.store(z_at, for_value.to(z.dtype.element_ty), mask=own)
        tl.store(p_at, for_output.to(p.dtype.element_ty), mask=own)
        # Columns beyond the map neighbour its last one.
        for_output = tl.where(own, for_output, 0)
        value_sum += for_value
        bias_sum += for_output
        sums = (
            _add_products(sums, for_output, above, 0)
            + _add_products(sums, for_output, here, 1)
            + _add_products(sums, for_output, wide, 2)
        )
        above = here
        here = wide
        g_at += width * g_step
        z_at += width * (2 * p_step)
        p_at += width * p_step
    tile = (tl.program_id(0) // channel_blocks).to(tl.int64)
    start = partial + tile * 11 * hidden
    value_sum = tl.where(columns < width, value_sum, 0)
    tl.store(start + channels, tl.sum(value_sum, 0)[None, :], mask=channels < hidden)
    for k in tl.static_range(9):
        tl.store(start + hidden + channels * 9 + k, tl.sum(sums[k], 0)[None, :], mask=channels < hidden)
    tl.store(start + hidden * 10 + channels, tl.sum(bias_sum, 0)[None, :], mask=channels < hidden)


@triton.jit(do_not_specialize=[*_SIZES, 'p_w'])
def conv_input_gradient_kernel(
    p, weight, sizes, y, partial,
    units, hidden, height, width, channel_blocks, column_blocks, strips, rows, p_w,
    BLOCK_W: tl.constexpr, BLOCK_C: tl.constexpr, VEC: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The gradient ``y`` of the convolution's input from that of its output ``p``, zero in the padding.

    Its sum over the tile goes to this tile's place in ``partial`` (B * strips * column blocks, hidden).
    """
    sample, first, end, columns, channels = _tile(channel_blocks, column_blocks, strips, rows, height, BLOCK_W, BLOCK_C)
    bottom, side = _valid(sizes, sample, height, width)
    known = channels < units * VEC
    masks = _neighbours(columns, width, known)
    valid = known & (columns < side)
    own = known & (columns < width)
    until = tl.minimum(height, end + 1)
    weights = _weights(weight, channels, hidden, ACC)
    pixels = (sample * height + first) * width + columns
    step = p_w.to(tl.int64) * VEC
    p_at = p + pixels * step + channels
    y_at = y + pixels * (2 * step) + channels
    zero = tl.zeros((BLOCK_W, BLOCK_C), ACC)
    above, here, below = _first_rows(p_at, width, step, first, until, masks)
    above = _wide(above, ACC)
    here = _wide(here, ACC)
    result = _add(_add(zero, above, weights, 2, True), here, weights, 1, True)
    following = _add(zero, here, weights, 2, True)
    input_sum = zero
    p_at += 2 * width * step
    for row in range(first, end):
        wide = _wide(below, ACC)
        below = _row(p_at, step, row + 2 < until, masks)
        result = _add(result, wide, weights, 0, True)
        if sizes is not None:
            result = tl.where(valid & (row < bottom), result, 0)
        input_sum += result
        tl.store(y_at, result.to(y.dtype.element_ty), mask=own)
        result = _add(following, wide, weights, 1, True)
        following = _add(zero, wide, weights, 2, True)
        p_at += width * step
        y_at += width * (2 * step)
    tile = (tl.program_id(0) // channel_blocks).to(tl.int64)
    # Columns beyond the map neighbour its last one.
    input_sum = tl.where(columns < width, input_sum, 0)
    tl.store(partial + tile * hidden + channels, tl.sum(input_sum, 0)[None, :], mask=channels < hidden)
