"""The Triton kernels that make kernels from their context, and of the gradients of that.

A row is a channel of a sample, its K * K positions padded to a power of two. The products over the positions are far
too narrow for matrix units, and stay in ``ACC``. Every sum has a fixed order: results repeat bit by bit.
"""

import triton
import triton.language as tl

from mmatconv.ops.triton_functions import gelu


@triton.jit
def _factor(difference, channel, inside, SIGMOID: tl.constexpr, ACC: tl.constexpr):
    """What the mean over the positions is multiplied with, for each row."""
    factor = tl.load(difference + channel, mask=inside, other=0).to(ACC)
    if SIGMOID:
        factor = -1.0 / (1.0 + tl.exp(-factor))
    return factor


@triton.jit(do_not_specialize=['rows', 'channels', 'c_b', 'c_c', 'c_n', 'y_b', 'y_c', 'y_n'])
def generate_kernel(
    context, weight, bias, difference, y,
    rows, channels, c_b, c_c, c_n, y_b, y_c, y_n,
    POSITIONS: tl.constexpr, PADDED: tl.constexpr, BLOCK_R: tl.constexpr,
    WITH_BIAS: tl.constexpr, SIGMOID: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """``y``: GELU, the product over the positions and differential kernel modulation."""
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
    change = _factor(difference, channel, row < rows, SIGMOID, ACC)
    kernels += (change * tl.sum(kernels, 1) / POSITIONS)[:, None]
    pointers = y + (sample * y_b + channel * y_c)[:, None] + position[None, :] * y_n
    tl.store(pointers, kernels.to(y.dtype.element_ty), mask=(row < rows)[:, None] & inside[None, :])


_STRIDES = [f'{tensor}_{axis}' for tensor in 'dcy' for axis in 'bcn']


@triton.jit(do_not_specialize=['batch', 'channels', 'share', *_STRIDES])
def generate_gradients_kernel(
    grad, context, weight, bias, difference, y, z, partial,
    batch, channels, share, d_b, d_c, d_n, c_b, c_c, c_n, y_b, y_c, y_n,
    POSITIONS: tl.constexpr, PADDED: tl.constexpr, BLOCK_R: tl.constexpr,
    WITH_BIAS: tl.constexpr, SIGMOID: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The gradient ``y`` of the context, and a program's part of the others.

    ``z`` is (splits, C), that of the difference; ``partial`` is (programs, K ** 4 + K ** 2), those of weight and bias.
    A program has ``BLOCK_R`` channels of a ``share`` of the samples.
    """
    program = tl.program_id(0)
    blocks = (channels + BLOCK_R - 1) // BLOCK_R
    channel = program % blocks * BLOCK_R + tl.arange(0, BLOCK_R)
    split = (program // blocks).to(tl.int64)
    first = split * share
    last = tl.minimum(first + share, batch)
    inside = channel < channels
    offset = channel.to(tl.int64)
    position = tl.arange(0, PADDED)
    own = inside[:, None] & (position < POSITIONS)[None, :]
    factor = _factor(difference, channel, inside, SIGMOID, ACC)
    sums = partial + program.to(tl.int64) * (POSITIONS * (POSITIONS + 1))
    slopes = grad + offset[:, None] * d_c + position[None, :] * d_n
    mean = tl.zeros((), ACC)
    if WITH_BIAS:
        mean += tl.sum(tl.load(bias + position, mask=position < POSITIONS, other=0).to(ACC), 0) / POSITIONS
    for_factor = tl.zeros((BLOCK_R,), ACC)
    for_bias = tl.zeros((BLOCK_R, PADDED), ACC)
    for sample in range(first, last):
        slope = tl.load(slopes + sample * d_b, mask=own, other=0).to(ACC)
        total = tl.sum(slope, 1)
        for_factor += total * mean
        for_bias += tl.where(own, slope + (factor * total / POSITIONS)[:, None], 0)
    tl.store(sums + POSITIONS * POSITIONS + position, tl.sum(for_bias, 0), mask=position < POSITIONS)
    # The slopes are read again for each position: they stay in the cache, and a table of sums would not in registers.
    for i in range(POSITIONS):
        column = tl.load(weight + position * POSITIONS + i, mask=position < POSITIONS, other=0).to(ACC)
        mean = tl.sum(column, 0) / POSITIONS
        for_column = tl.zeros((BLOCK_R, PADDED), ACC)
        for sample in range(first, last):
            slope = tl.load(slopes + sample * d_b, mask=own, other=0).to(ACC)
            total = tl.sum(slope, 1)
            slope = tl.where(own, slope + (factor * total / POSITIONS)[:, None], 0)
            value = tl.load(context + sample * c_b + offset * c_c + i * c_n, mask=inside, other=0).to(ACC)
            below = 0.5 * (1.0 + tl.erf(value * 0.7071067811865476))
            for_factor += total * value * below * mean
            for_column += slope * (value * below)[:, None]
            along = tl.sum(slope * column[None, :], 1)
            along *= below + value * tl.exp(-0.5 * value * value) * 0.3989422804014327
            tl.store(y + sample * y_b + offset * y_c + i * y_n, along.to(y.dtype.element_ty), mask=inside)
        tl.store(sums + position * POSITIONS + i, tl.sum(for_column, 0), mask=position < POSITIONS)
    if SIGMOID:
        for_factor *= factor * (1 + factor)
    tl.store(z + split * channels + channel, for_factor.to(z.dtype.element_ty), mask=inside)
