"""The weights of many layers cast to the dtype of autocast together, and padded to sizes that products like.

Autocast casts every weight by itself, forward and backward: more than 600 launches in a training step of AttNet-T2. Its
hidden sizes, such as 341, are no multiple of 8 either, which a GPU's fast products in half precision need.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from mmatconv.ops.autocast import autocast_dtype
from mmatconv.ops.autograd_function import Function
from mmatconv.ops.tracing import is_observed, is_on_gpu

# Elements: products want rows of 16 bytes.
MULTIPLE = 8
# Sets of weights that are remembered: a stage or a layer is one.
LAYOUTS = 1024


class Weight(NamedTuple):
    """A weight to be cast.

    Attributes:
        values: (D,) or (D, C, ...), a matrix: what is behind C is 1.
        gain: (C,), what multiplies the columns. Default: None, ones.
        parts: How many parts of one size there are along D. Default: 1.
        rows: Zeros behind each part. Default: 0.
        columns: Zeros behind all columns, for a matrix of one part. Default: 0.
    """

    values: Tensor
    gain: Tensor | None = None
    parts: int = 1
    rows: int = 0
    columns: int = 0


def padding(size: int) -> int:
    """How many zeros make ``size`` a multiple of 8."""
    return -size % MULTIPLE


def cast_together(x: Tensor) -> torch.dtype | None:
    """The dtype of autocast where it would cast weights that multiply ``x`` one by one: in eager mode on a GPU."""
    return autocast_dtype(x.device.type) if is_on_gpu(x) and not is_observed() else None


def cast_weights(weights: Sequence[Weight], dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Weights in another dtype and with zeros between them, differentiable to any order.

    One operation writes those without gain and columns, and one their gradients; each of the others has its own.

    Args:
        weights: Of one dtype and device.
        dtype: Of the results.

    Returns:
        Of each a vector or a matrix.
    """
    kinds = tuple((weight.gain is not None, *weight[2:]) for weight in weights)
    gains = [weight.gain for weight in weights if weight.gain is not None]
    return _CastWeights.apply(dtype, kinds, *[weight.values for weight in weights], *gains)


class _CastWeights(Function):
    @staticmethod
    def forward(ctx, dtype: torch.dtype, kinds: tuple[tuple, ...], *tensors: Tensor) -> tuple[Tensor, ...]:
        """``kinds`` has of each weight whether there is a gain, parts, rows and columns; the gains are the last."""
        gains, shapes = iter(tensors[len(kinds) :]), tuple(x.shape for x in tensors[: len(kinds)])
        results = _side_by_side(_padded_shapes(shapes, kinds), dtype, tensors[0].device)
        targets, sources, products, blank, kept, frozen = [], [], [], [], [], []
        for values, (has_gain, parts, rows, columns), result in zip(tensors, kinds, results):
            matrix, gain = _matrix(values), next(gains) if has_gain else None
            if has_gain or columns:
                products.append((matrix, gain if has_gain else 1, _without(columns, result)))
                blank += [result] if columns else []
            elif rows:
                pieces = _split(result, parts, rows)
                targets += pieces[::2]
                blank += pieces[1::2]
                sources += matrix.chunk(parts)
            else:
                targets.append(result)
                sources.append(matrix)
            if has_gain:
                kept += values, gain
            if not (values.requires_grad or (has_gain and gain.requires_grad)):
                frozen.append(result)
        if blank:
            torch._foreach_zero_(blank)
        if targets:
            torch._foreach_copy_(targets, sources)
        for matrix, factor, inner in products:
            torch.mul(matrix, factor, out=inner)
        ctx.dtype, ctx.kinds, ctx.shapes = tensors[0].dtype, kinds, shapes
        ctx.save_for_backward(*kept)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*frozen)
        return tuple(results)

    @staticmethod
    def backward(ctx, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        some = next((grad for grad in grads if grad is not None), None)
        if some is None:
            return (None,) * len(ctx.needs_input_grad)
        if torch.is_grad_enabled():
            return None, None, *_plain_gradients(ctx, grads)
        kept = iter(ctx.saved_tensors)
        given = tuple(shape for shape, grad in zip(ctx.shapes, grads) if grad is not None)
        memory = iter(_side_by_side(given, ctx.dtype, some.device))
        found, of_gains, targets, sources = [], [], [], []
        for (has_gain, parts, rows, columns), grad in zip(ctx.kinds, grads):
            values, gain = (next(kept), next(kept)) if has_gain else (None, 1)
            own = None if grad is None else next(memory)
            found.append(own)
            if grad is None:
                of_gains += [None] * has_gain
            elif has_gain or columns:
                inner = _without(columns, grad)
                torch.mul(inner, gain, out=_matrix(own))
                of_gains += [(inner * _matrix(values)).sum(0)] if has_gain else []
            elif rows:
                targets += _matrix(own).chunk(parts)
                sources += _split(grad, parts, rows)[::2]
            else:
                targets.append(_matrix(own))
                sources.append(grad)
        if targets:
            torch._foreach_copy_(targets, sources)
        return None, None, *found, *of_gains


def _plain_gradients(ctx, grads: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Of values and gains, in operations that can be differentiated again; values without a gain are not needed."""
    kept = iter(ctx.saved_tensors)
    found, of_gains = [], []
    for shape, (has_gain, parts, rows, columns), grad in zip(ctx.shapes, ctx.kinds, grads):
        values, gain = (next(kept), next(kept)) if has_gain else (None, None)
        if grad is None:
            found.append(None)
            of_gains += [None] * has_gain
            continue
        inner = torch.cat(_split(grad, parts, rows)[::2]) if rows else _without(columns, grad)
        if has_gain:
            of_gains.append((inner * _matrix(values)).sum(0))
            inner = inner * gain
        found.append(inner.reshape(shape).to(ctx.dtype))
    return found + of_gains


def _matrix(values: Tensor) -> Tensor:
    """The values without what is behind C."""
    return values.flatten(1) if values.dim() > 2 else values


def _without(columns: int, x: Tensor) -> Tensor:
    """A matrix without its last columns."""
    return x[:, :-columns] if columns else x


def _split(x: Tensor, parts: int, rows: int) -> Sequence[Tensor]:
    """Of a tensor like a result, in turns, a part and the zeros behind it."""
    return x.split_with_sizes([x.shape[0] // parts - rows, rows] * parts)


@lru_cache(LAYOUTS)
def _padded_shapes(shapes: tuple[torch.Size, ...], kinds: tuple[tuple, ...]) -> tuple[tuple[int, ...], ...]:
    """Of the results for weights of these shapes."""
    matrices = ((shape[0], *(prod(shape[1:]),) * (len(shape) > 1)) for shape in shapes)
    return tuple(
        (height + parts * rows, *(side + columns for side in width))
        for (height, *width), (_, parts, rows, columns) in zip(matrices, kinds)
    )


def _side_by_side(shapes: tuple[tuple[int, ...], ...], dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    """Empty tensors in one piece of memory, which costs less than a piece for each."""
    pieces = _pieces(shapes)
    memory = torch.empty(sum(pieces), dtype=dtype, device=device)
    return [own.view(shape) for own, shape in zip(memory.split_with_sizes(pieces)[::2], shapes)]


@lru_cache(LAYOUTS)
def _pieces(shapes: tuple[tuple[int, ...], ...]) -> list[int]:
    """Of tensors side by side, in turns, the elements of one and those up to the next, which begins at a multiple."""
    return [size for shape in shapes for size in (prod(shape), padding(prod(shape)))]
