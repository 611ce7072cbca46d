"""RMSNorm and the linear layer behind it, with the norm applied to the smaller of both maps."""

import torch
from torch import Tensor

from mmatconv.ops.cpu.linear import linear, linear_gradients, uses_onednn
from mmatconv.ops.gradients import differentiable_gradients


def rms_linear(x: Tensor, gain: Tensor | None, weight: Tensor, eps: float, scale: Tensor | None = None) -> Tensor:
    """``(x / sqrt(mean(x**2) + eps) * gain) @ weight.T`` with the division after the product.

    The gain scales the columns of the weight and the root is one number a row, so both commute with the product, and
    no normalised map of the larger width is ever written. The mean is taken in float32 for half precision.

    Args:
        x: (..., C).
        gain: (C,), or None for ones.
        weight: (D, C).
        eps: Added to the mean square.
        scale: (..., 1), what :func:`rms_scale` makes of ``x``, where it is known already. Default: None.

    Returns:
        (..., D).
    """
    if x.dtype == torch.float16:
        # Products of values that are not normalised yet may leave its range.
        x = x * (rms_scale(x, eps) if scale is None else scale).to(x.dtype)
        return linear(x if gain is None else x * gain.to(x.dtype), weight)
    weight = weight if gain is None else weight * gain
    if scale is not None:
        product = linear(x, weight)
        return product * scale.to(product.dtype)
    if uses_onednn(x) and torch.is_grad_enabled():
        return _RMSLinear.apply(x, weight, eps)
    return _plain(x, weight, eps)


def _plain(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    product = linear(x, weight)
    return product * rms_scale(x, eps).to(product.dtype)


def rms_scale(x: Tensor, eps: float) -> Tensor:
    """``1 / sqrt(mean(x**2) + eps)`` of each row: (..., C) -> (..., 1), in float32 for half precision."""
    wide = torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide)
    return (norm.square() / x.shape[-1] + eps).rsqrt()


class _RMSLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        product, scale = linear(x, weight), rms_scale(x, eps).to(x.dtype)
        ctx.save_for_backward(x, weight, product, scale)
        ctx.eps = eps
        return product * scale

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, product, scale = ctx.saved_tensors
        if torch.is_grad_enabled():
            needed = ctx.needs_input_grad[:2]
            return *differentiable_gradients(lambda a, b: _plain(a, b, ctx.eps), (x, weight), needed, grad), None
        # d scale / d x = -scale**3 / C * x
        along = (grad * product).sum(-1, keepdim=True) * scale**3 / -x.shape[-1]
        grad = grad * scale
        grad_x, grad_weight, _ = linear_gradients(grad, x, weight, (*ctx.needs_input_grad[:2], False))
        return grad_x.addcmul_(x, along) if ctx.needs_input_grad[0] else None, grad_weight, None
