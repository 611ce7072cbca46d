"""The Triton kernels of residual sum and LayerNorm: rows of ``C`` channels, one for each pixel of dense maps.

A tile has ``BLOCK_R`` whole rows. Everything is computed in ``ACC``, offsets are 64 bits wide, and a program sums over
the rows of its own tiles alone, so that results repeat bit by bit.
"""

import triton
import triton.language as tl


@triton.jit
def _scale(gamma, factor, row, column, rows, pixels, C: tl.constexpr, WITH_GAMMA: tl.constexpr,
           WITH_FACTOR: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr, ACC: tl.constexpr):  # fmt: skip
    """LayerScale times the factor of stochastic depth, (BLOCK_R, BLOCK_C)."""
    scale = tl.full((BLOCK_R, BLOCK_C), 1.0, ACC)
    if WITH_FACTOR:
        scale *= tl.load(factor + row // pixels, mask=row < rows, other=0).to(ACC)[:, None]
    if WITH_GAMMA:
        scale *= tl.load(gamma + column, mask=column < C, other=0).to(ACC)[None, :]
    return scale


@triton.jit
def _added(branch, row_scale, offset, row, column, rows, C: tl.constexpr, WITH_ROW_SCALE: tl.constexpr,
           WITH_OFFSET: tl.constexpr, ACC: tl.constexpr):  # fmt: skip
    """The branch in ``ACC`` with its scale and offset, (BLOCK_R, BLOCK_C), and as it is stored."""
    inside = (row < rows)[:, None] & (column < C)[None, :]
    stored = tl.load(branch + row.to(tl.int64)[:, None] * C + column[None, :], mask=inside, other=0).to(ACC)
    added = stored
    if WITH_ROW_SCALE:
        added *= tl.load(row_scale + row, mask=row < rows, other=0).to(ACC)[:, None]
    if WITH_OFFSET:
        added += tl.load(offset + column, mask=column < C, other=0).to(ACC)[None, :]
    return added, stored


@triton.jit(do_not_specialize=['rows', 'pixels'])
def residual_norm_kernel(
    before, branch, row_scale, offset, gamma, factor, gain, shift, after, normalised, stats,
    rows, pixels,
    C: tl.constexpr, WITH_BRANCH: tl.constexpr, WITH_ROW_SCALE: tl.constexpr, WITH_OFFSET: tl.constexpr,
    WITH_GAMMA: tl.constexpr, WITH_FACTOR: tl.constexpr, WITH_NORM: tl.constexpr, WITH_GAIN: tl.constexpr,
    WITH_SHIFT: tl.constexpr, EPS: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """``after = before + (branch * row_scale + offset) * gamma * factor``, and the norm of what is stored; ``stats``
    (2, rows) are the mean of each and one over its deviation."""
    row = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    column = tl.arange(0, BLOCK_C)
    inside = (row < rows)[:, None] & (column < C)[None, :]
    place = row.to(tl.int64)[:, None] * C + column[None, :]
    value = tl.load(before + place, mask=inside, other=0).to(ACC)
    if WITH_BRANCH:
        scale = _scale(gamma, factor, row, column, rows, pixels, C, WITH_GAMMA, WITH_FACTOR, BLOCK_R, BLOCK_C, ACC)
        added, _ = _added(branch, row_scale, offset, row, column, rows, C, WITH_ROW_SCALE, WITH_OFFSET, ACC)
        value += added * scale
        stored = value.to(after.dtype.element_ty)
        tl.store(after + place, stored, mask=inside)
        value = stored.to(ACC)
    if WITH_NORM:
        average = tl.sum(value, 1) / C
        centred = tl.where(inside, value - average[:, None], 0)
        inverse = 1.0 / tl.sqrt(tl.sum(centred * centred, 1) / C + EPS)
        result = centred * inverse[:, None]
        if WITH_GAIN:
            result *= tl.load(gain + column, mask=column < C, other=0).to(ACC)[None, :]
        if WITH_SHIFT:
            result += tl.load(shift + column, mask=column < C, other=0).to(ACC)[None, :]
        tl.store(normalised + place, result.to(normalised.dtype.element_ty), mask=inside)
        tl.store(stats + row, average, mask=row < rows)
        tl.store(stats + rows.to(tl.int64) + row, inverse, mask=row < rows)


@triton.jit(do_not_specialize=['rows', 'pixels', 'tiles'])
def residual_norm_gradients_kernel(
    before, branch, row_scale, offset, gamma, factor, gain, stats, grad_after, grad_normalised,
    grad_before, grad_branch, grad_row_scale, partial,
    rows, pixels, tiles,
    C: tl.constexpr, WITH_AFTER: tl.constexpr, WITH_BRANCH: tl.constexpr, WITH_ROW_SCALE: tl.constexpr,
    WITH_OFFSET: tl.constexpr, WITH_GAMMA: tl.constexpr, WITH_FACTOR: tl.constexpr, WITH_NORM: tl.constexpr,
    WITH_GAIN: tl.constexpr, SUMS: tl.constexpr, STREAM: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Gradients of ``before``, branch and row_scale, and sums over the ``tiles`` of each program for the vectors.

    The stream, whose dtype is ``STREAM``, is computed again from what :func:`residual_norm_kernel` read; without
    ``WITH_GAMMA`` ``before`` is the stream itself. ``partial`` is (programs, SUMS, C): of gamma, offset, gain and shift
    those that there are.
    """
    column = tl.arange(0, BLOCK_C)
    for_gamma = tl.zeros((BLOCK_R, BLOCK_C), ACC)
    for_offset = tl.zeros((BLOCK_R, BLOCK_C), ACC)
    for_gain = tl.zeros((BLOCK_R, BLOCK_C), ACC)
    for_shift = tl.zeros((BLOCK_R, BLOCK_C), ACC)
    for tile in range(tiles):
        row = (tl.program_id(0) * tiles + tile) * BLOCK_R + tl.arange(0, BLOCK_R)
        inside = (row < rows)[:, None] & (column < C)[None, :]
        place = row.to(tl.int64)[:, None] * C + column[None, :]
        total = tl.zeros((BLOCK_R, BLOCK_C), ACC)
        if WITH_AFTER:
            total += tl.load(grad_after + place, mask=inside, other=0).to(ACC)
        if WITH_GAMMA or WITH_ROW_SCALE:
            added, product = _added(branch, row_scale, offset, row, column, rows, C, WITH_ROW_SCALE, WITH_OFFSET, ACC)
        scale = _scale(gamma, factor, row, column, rows, pixels, C, WITH_GAMMA, WITH_FACTOR, BLOCK_R, BLOCK_C, ACC)
        if WITH_NORM:
            value = tl.load(before + place, mask=inside, other=0).to(ACC)
            if WITH_GAMMA:
                value = (value + added * scale).to(STREAM).to(ACC)
            inverse = tl.load(stats + rows.to(tl.int64) + row, mask=row < rows, other=0)
            normal = (value - tl.load(stats + row, mask=row < rows, other=0)[:, None]) * inverse[:, None]
            slope = tl.load(grad_normalised + place, mask=inside, other=0).to(ACC)
            for_shift += slope
            for_gain += slope * normal
            if WITH_GAIN:
                slope *= tl.load(gain + column, mask=column < C, other=0).to(ACC)[None, :]
            along = tl.sum(slope * normal, 1) / C
            total += (slope - (tl.sum(slope, 1) / C)[:, None] - normal * along[:, None]) * inverse[:, None]
            # Else it is the stream's.
            tl.store(grad_before + place, total.to(grad_before.dtype.element_ty), mask=inside)
        if WITH_GAMMA:
            if WITH_FACTOR:
                added *= tl.load(factor + row // pixels, mask=row < rows, other=0).to(ACC)[:, None]
            for_gamma += total * added
        total *= scale
        if WITH_OFFSET:
            for_offset += total
        if WITH_ROW_SCALE:
            tl.store(grad_row_scale + row, tl.sum(total * product, 1), mask=row < rows)
            total *= tl.load(row_scale + row, mask=row < rows, other=0).to(ACC)[:, None]
        if WITH_BRANCH:
            tl.store(grad_branch + place, total.to(grad_branch.dtype.element_ty), mask=inside)
    if SUMS > 0:
        sums = partial + tl.program_id(0).to(tl.int64) * SUMS * C + column
        if WITH_GAMMA:
            tl.store(sums, tl.sum(for_gamma, 0), mask=column < C)
            sums += C
        if WITH_OFFSET:
            tl.store(sums, tl.sum(for_offset, 0), mask=column < C)
            sums += C
        if WITH_NORM:
            tl.store(sums, tl.sum(for_gain, 0), mask=column < C)
            tl.store(sums + C, tl.sum(for_shift, 0), mask=column < C)
