"""The weights of several layers cast to the dtype of autocast together, and padded to sizes that products like.

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
from mmatconv.ops.tracing import is_observed, is_on_gpu

# Elements: products want rows of 16 bytes, and so do tensors that begin inside another.
MULTIPLE = 8


class Parts(NamedTuple):
    """How a weight is padded: zeros behind each of its parts along the first dimension."""

    count: int = 1
    zeros: int = 0


def padding(size: int) -> int:
    """How many zeros make ``size`` a multiple of 8."""
    return -size % MULTIPLE


def cast_together(x: Tensor) -> torch.dtype | None:
    """The dtype of autocast where it would cast weights that multiply ``x`` one by one: in eager mode on a GPU."""
    return autocast_dtype(x.device.type) if is_on_gpu(x) and not is_observed() else None


def cast_weights(weights: Sequence[Tensor], dtype: torch.dtype, parts: Sequence[Parts]) -> tuple[Tensor, ...]:
    """Weights in another dtype and with zeros behind their parts, differentiable.

    Two operations cast all of them, and two their gradients.

    Args:
        weights: Of one dtype and device, any shapes.
        dtype: Of the results.
        parts: How each is padded along its first dimension, which ``count`` divides.

    Returns:
        Of each a tensor with ``count * zeros`` more entries along the first dimension.
    """
    return _CastWeights.apply(dtype, tuple(parts), *weights)


class _CastWeights(torch.autograd.Function):
    @staticmethod
    def forward(ctx, dtype: torch.dtype, parts: tuple[Parts, ...], *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.parts, ctx.dtype = parts, weights[0].dtype
        ctx.set_materialize_grads(False)
        shapes, sizes, gaps = _places(tuple(weight.shape for weight in weights), parts)
        blank = weights[0].new_zeros(max(gaps)) if any(gaps) else None
        pieces, left = [], iter(gaps)
        for (count, zeros), weight in zip(parts, weights):
            for part in weight.flatten().chunk(count) if zeros else (weight.flatten(),):
                pieces.append(part)
                gap = next(left)
                if gap:
                    pieces.append(blank[:gap])
        flat = torch.cat(pieces).to(dtype).split(sizes)
        return tuple(part.view(shape) for part, shape in zip(flat[::2], shapes))

    @staticmethod
    def backward(ctx, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        known = [grad.flatten() for grad in grads if grad is not None]
        if not known:
            return (None,) * (2 + len(grads))
        flat = iter(torch.cat(known).to(ctx.dtype).split([grad.numel() for grad in known]))
        results = []
        for (count, zeros), grad in zip(ctx.parts, grads):
            if grad is None:
                results.append(None)
                continue
            grad = next(flat).view(count, -1, *grad.shape[1:])
            results.append((grad[:, : grad.shape[1] - zeros] if zeros else grad).flatten(0, 1))
        return None, None, *results


@lru_cache
def _places(
    shapes: tuple[torch.Size, ...], parts: tuple[Parts, ...]
) -> tuple[list[tuple[int, ...]], list[int], list[int]]:
    """Padded shapes, the elements of each and of the gap behind it, and the zeros behind every part."""
    padded, sizes, gaps = [], [], []
    for (count, zeros), shape in zip(parts, shapes):
        padded.append((shape[0] + count * zeros, *shape[1:]))
        sizes += [prod(padded[-1]), padding(prod(padded[-1]))]
        gaps += [zeros * prod(shape[1:])] * (count if zeros else 1)
        gaps[-1] += sizes[-1]
    return padded, sizes, gaps
