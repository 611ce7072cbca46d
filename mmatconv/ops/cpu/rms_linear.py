"""RMSNorm and the linear layer behind it, with gradients of a CPU."""

import torch
from torch import Tensor

from mmatconv.ops.cpu.linear import linear, linear_gradients
from mmatconv.ops.gradients import differentiable_gradients
from mmatconv.ops.rms_scale import rms_scale


class RMSLinear(torch.autograd.Function):
    """``(x @ weight.T) * rms_scale(x, eps)``: (..., C) and (D, C) -> (..., D)."""

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

            def plain(x: Tensor, weight: Tensor) -> Tensor:
                return linear(x, weight) * rms_scale(x, ctx.eps)

            return *differentiable_gradients(plain, (x, weight), ctx.needs_input_grad[:2], grad), None
        # d scale / d x = -scale**3 / C * x
        along = (grad * product).sum(-1, keepdim=True) * scale**3 / -x.shape[-1]
        grad = grad * scale
        grad_x, grad_weight, _ = linear_gradients(grad, x, weight, (*ctx.needs_input_grad[:2], False))
        return grad_x.addcmul_(x, along) if ctx.needs_input_grad[0] else None, grad_weight, None
