"""Matrix products over the innermost dimension, with what follows them fused where oneDNN can.

torch hands float32 products on a CPU to its BLAS, which on many processors is half as fast as oneDNN, the library
behind its convolutions. oneDNN also applies a GELU, a product or a sum while it writes the result.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .gradients import differentiable_gradients
from .tracing import is_traced

# Below this many rows oneDNN's rearrangement of the weights costs more than it saves.
FEWEST_ROWS = 64
HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, '_linear_pointwise')


def uses_onednn(x: Tensor) -> bool:
    """Whether products of ``x`` go to oneDNN: float32 on a CPU, outside autocast, tracing and compilation."""
    return (
        not is_traced()
        and HAS_ONEDNN
        and x.device.type == 'cpu'
        and x.dtype == torch.float32
        and torch.backends.mkldnn.enabled
        and not torch.is_autocast_cpu_enabled()
    )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias``, as ``torch.nn.functional.linear`` computes it.

    Args:
        x: (..., C).
        weight: (D, C).
        bias: (D,). Default: None.

    Returns:
        (..., D).
    """
    if not uses_onednn(x) or x.numel() < FEWEST_ROWS * x.shape[-1]:
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        return _Linear.apply(x, weight, bias)
    return _product(x, weight, bias)


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``gelu(x @ weight.T + bias)`` without gradients: (..., C) -> (..., D)."""
    if uses_onednn(x):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, 'gelu', [], 'none')
    return F.gelu(F.linear(x, weight, bias))


def linear_mul(x: Tensor, weight: Tensor, bias: Tensor, factor: Tensor) -> Tensor:
    """``(x @ weight.T + bias) * factor`` without gradients: (..., C) and (..., D) -> (..., D)."""
    if uses_onednn(x):
        return torch.ops.mkldnn._linear_pointwise.binary(x, factor, weight, bias, 'mul')
    return F.linear(x, weight, bias) * factor


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, 'none', [], 'none')


class _Linear(torch.autograd.Function):
    """oneDNN's product with gradients; the one of the weights, where rows are summed, stays with the BLAS."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            return differentiable_gradients(F.linear, ctx.saved_tensors, ctx.needs_input_grad, grad)
        x, weight = ctx.saved_tensors[:2]
        for_x, for_weight, for_bias = ctx.needs_input_grad
        rows = grad.flatten(0, -2)
        return (
            _product(grad.contiguous(), weight.t().contiguous(), None) if for_x else None,
            rows.t() @ x.flatten(0, -2) if for_weight else None,
            rows.sum(0) if for_bias else None,
        )
