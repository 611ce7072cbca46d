"""The weights of many layers cast to the dtype of autocast together, and padded to sizes that products like.

Autocast casts every weight by itself, forward and backward: more than 600 launches in a training step of AttNet-T2. Its
hidden sizes, such as 341, are no multiple of 8 either, which a GPU's fast products in half precision need.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmatconv.ops.autocast import autocast_dtype
from mmatconv.ops.autograd_function import Function
from mmatconv.ops.gradients import differentiable_gradients
from mmatconv.ops.tracing import is_observed, is_on_gpu

# Elements: products want rows of 16 bytes.
MULTIPLE = 8


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

    @property
    def matrix(self) -> Tensor:
        """The values without what is behind C."""
        return self.values.flatten(1) if self.values.dim() > 2 else self.values

    @property
    def is_copied(self) -> bool:
        """Whether all there is to it is another dtype and zeros between the parts."""
        return self.gain is None and not self.columns

    def cast(self, dtype: torch.dtype) -> Tensor:
        """The result in plain operations: (D + parts * rows,) or (D + parts * rows, C + columns)."""
        x = self.matrix if self.gain is None else self.matrix * self.gain
        x = F.pad(x, (0, self.columns)) if self.columns else x
        parts = x.unflatten(0, (self.parts, -1))
        return F.pad(parts, (*(0, 0) * (x.dim() - 1), 0, self.rows)).flatten(0, 1).to(dtype)

    def split(self, x: Tensor) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Of a tensor like the result the parts and the zeros behind them, as vectors."""
        if not self.rows:
            return [x.reshape(-1)], []
        width = self.values[0].numel()
        pieces = x.reshape(-1).split([self.values.numel() // self.parts, self.rows * width] * self.parts)
        return pieces[::2], pieces[1::2]


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
    tensors = [x for weight in weights for x in weight[:2]]
    return _CastWeights.apply(dtype, tuple(weight[2:] for weight in weights), *tensors)


class _CastWeights(Function):
    @staticmethod
    def forward(ctx, dtype: torch.dtype, zeros: tuple[tuple, ...], *tensors: Tensor | None) -> tuple[Tensor, ...]:
        ctx.zeros = zeros
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        weights = _weights(zeros, tensors)
        results, targets, sources, blank = [], [], [], []
        for weight in weights:
            (height, *width), parts = weight.matrix.shape, weight.parts
            shape = height + parts * weight.rows, *(side + weight.columns for side in width)
            result = weight.values.new_empty(shape, dtype=dtype)
            results.append(result)
            if weight.is_copied:
                own, between = weight.split(result)
                targets += own
                blank += between
                sources += weight.values.reshape(-1).chunk(parts) if weight.rows else [weight.values.reshape(-1)]
            elif weight.columns:
                blank.append(result)
        if blank:
            torch._foreach_zero_(blank)
        if targets:
            torch._foreach_copy_(targets, sources)
        for weight, result in zip(weights, results):
            if not weight.is_copied:
                inner = result[:, : result.shape[1] - weight.columns]
                factor = 1 if weight.gain is None else weight.gain
                torch.mul(weight.matrix, factor, out=inner)
        frozen = [r for r, w in zip(results, weights) if not any(x is not None and x.requires_grad for x in w[:2])]
        ctx.mark_non_differentiable(*frozen)
        return tuple(results)

    @staticmethod
    def backward(ctx, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        found, targets, sources = [None, None], [], []
        for i, (weight, grad) in enumerate(zip(_weights(ctx.zeros, ctx.saved_tensors), grads)):
            if grad is None:
                found += [None, None]
            elif torch.is_grad_enabled():
                needed = ctx.needs_input_grad[2 + 2 * i : 4 + 2 * i]
                found += differentiable_gradients(partial(_cast, weight, grad.dtype), weight[:2], needed, grad)
            elif weight.is_copied:
                own = weight.values.new_empty(weight.values.shape)
                targets += own.view(-1).chunk(weight.parts) if weight.rows else [own.view(-1)]
                sources += weight.split(grad)[0]
                found += [own, None]
            else:
                inner = grad[:, : grad.shape[1] - weight.columns]
                factor = 1 if weight.gain is None else weight.gain
                own = weight.values.new_empty(weight.values.shape)
                torch.mul(inner, factor, out=own.view(inner.shape))
                found += [own, None if weight.gain is None else (inner * weight.matrix).sum(0)]
        if targets:
            torch._foreach_copy_(targets, sources)
        return tuple(found)


def _cast(weight: Weight, dtype: torch.dtype, values: Tensor, gain: Tensor | None) -> Tensor:
    return weight._replace(values=values, gain=gain).cast(dtype)


def _weights(zeros: tuple[tuple, ...], tensors: Sequence[Tensor | None]) -> list[Weight]:
    return [Weight(*pair, *rest) for *pair, rest in zip(tensors[::2], tensors[1::2], zeros)]
