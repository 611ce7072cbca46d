"""Matrix products by oneDNN, with the elementwise operation behind them fused.

torch hands float32 products on a CPU to its BLAS, which on many processors is half as fast as oneDNN, the library
behind its convolutions. oneDNN also applies a GELU or a product while it writes the result.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmatconv.ops.gradients import differentiable_gradients
from mmatconv.ops.tracing import is_on_gpu, is_traced

# Below this many rows oneDNN's rearrangement of the weights costs more than it saves, and below this many products the
# 13 us that a call of it costs more than one of the BLAS.
FEWEST_ROWS, FEWEST_PRODUCTS = 64, 2**22
# From here on oneDNN also sums the gradient to the weights over the rows faster than the BLAS.
MANY_ROWS = 2048
HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, '_linear_pointwise')


def uses_onednn(x: Tensor) -> bool:
    """Whether products of ``x`` go to oneDNN: float32 on a CPU, outside autocast, tracing and compilation."""
    return (
        not is_traced()
        and HAS_ONEDNN
        and x.device.type == 'cpu'
        and not is_on_gpu(x)
        and x.dtype == torch.float32
        and torch.backends.mkldnn.enabled
        and not torch.is_autocast_cpu_enabled()
    )


def _is_large(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN multiplies (..., C) and (D, C) faster."""
    return x.numel() >= FEWEST_ROWS * x.shape[-1] and x.numel() * weight.shape[0] >= FEWEST_PRODUCTS


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias`` where :func:`uses_onednn`: (..., C) -> (..., D)."""
    if not _is_large(x, weight):
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        return Linear.apply(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, 'none', [], 'none')


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``gelu(x @ weight.T + bias)`` without gradients: (..., C) -> (..., D)."""
    if _is_large(x, weight):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, 'gelu', [], 'none')
    return F.gelu(F.linear(x, weight, bias))


def linear_mul(x: Tensor, weight: Tensor, bias: Tensor, factor: Tensor) -> Tensor:
    """``(x @ weight.T + bias) * factor`` without gradients: (..., C) and (..., D) -> (..., D)."""
    if _is_large(x, weight):
        return torch.ops.mkldnn._linear_pointwise.binary(x, factor, weight, bias, 'mul')
    return F.linear(x, weight, bias) * factor


class Linear(torch.autograd.Function):
    """oneDNN's product with gradients."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, 'none', [], 'none')

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            return differentiable_gradients(F.linear, ctx.saved_tensors, ctx.needs_input_grad, grad)
        x, weight = ctx.saved_tensors[:2]
        return linear_gradients(grad, x, weight, ctx.needs_input_grad)


def linear_gradients(
    grad: Tensor, x: Tensor, weight: Tensor, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of :func:`linear` from that of its result.

    Args:
        grad: (..., D).
        x: (..., C).
        weight: (D, C).
        wanted: Whether the gradient to ``x``, to ``weight`` and to the bias is.

    Returns:
        (..., C), (D, C) and (D,), None where not wanted.
    """
    rows, channels = x.numel() // x.shape[-1], x.shape[-1]
    # oneDNN's gradients of a 1x1 convolution want no transposed copy of the weights, as a product would.
    by_convolution = wanted if rows >= MANY_ROWS else (wanted[0], False, False)
    maps = (t.reshape(1, rows, 1, t.shape[-1]).permute(0, 3, 1, 2) for t in (grad, x))
    grad_x, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
        *maps, weight[:, :, None, None], [len(weight)], [1, 1], [0, 0], [1, 1], False, [0, 0], 1, by_convolution
    )
    if grad_x is not None:
        grad_x = grad_x.permute(0, 2, 3, 1).reshape(x.shape)
    if wanted[1]:
        by_product = grad_weight is None
        grad_weight = grad.reshape(rows, -1).t() @ x.reshape(rows, channels) if by_product else grad_weight[:, :, 0, 0]
    if wanted[2] and grad_bias is None:
        grad_bias = grad.reshape(rows, -1).sum(0)
    return grad_x, grad_weight, grad_bias
