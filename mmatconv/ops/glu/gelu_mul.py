"""The gate of a gated linear unit: an autograd function that keeps its two inputs for the backward pass, nothing else.

As two operations torch would also keep the GELU, a third map of the hidden size. A compiler or counter sees the plain
expression instead, which a compiler fuses with its neighbours.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmatconv.ops.gradients import differentiable_gradients
from mmatconv.ops.paths import TritonLaunches, takes_triton
from mmatconv.ops.rms_scale import rms_scale
from mmatconv.ops.tracing import is_observed, is_traced


def gelu_mul(gate: Tensor, value: Tensor, path: str) -> Tensor:
    """``gelu(gate) * value``, differentiable to any order.

    Args:
        gate: Any shape and strides.
        value: The same shape and dtype, any strides.
        path: What ``paths.choose`` returned.

    Returns:
        The same shape.

    Raises:
        UserError: Path 'triton' where it cannot run.
    """
    if is_observed() if takes_triton(path) else is_traced():
        return _plain(gate, value, None)[0]
    return _GeluMul.apply(gate, value, None, path)[0]


def gelu_mul_scale(gate: Tensor, value: Tensor, eps: float, path: str) -> tuple[Tensor, Tensor]:
    """:func:`gelu_mul` and what RMSNorm multiplies each row of it by, without another reading.

    Args:
        gate: (..., D), any strides.
        value: The same shape and dtype, any strides.
        eps: Added to the mean square.
        path: What ``paths.choose`` returned.

    Returns:
        The product (..., D) and ``1 / sqrt(mean(product ** 2) + eps)``, (..., 1), in float32 for half precision.

    Raises:
        UserError: Path 'triton' where it cannot run.
    """
    return (_plain(gate, value, eps) if is_observed() else _GeluMul.apply(gate, value, eps, path))[:2]


def _plain(gate: Tensor, value: Tensor, eps: float | None) -> tuple[Tensor, Tensor | None]:
    product = F.gelu(gate) * value
    return product, None if eps is None else rms_scale(product, eps)


class _GeluMul(torch.autograd.Function):
    @staticmethod
    def forward(gate: Tensor, value: Tensor, eps: float | None, path: str) -> tuple[Tensor, Tensor | None]:
        with TritonLaunches('glu', gate, path) as launches:
            if launches is not None:
                return launches.gate(gate, value, eps)
        product = F.gelu(gate).mul_(value)
        return product, None if eps is None else rms_scale(product, eps)

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: tuple) -> None:
        gate, value, ctx.eps, ctx.path = inputs
        ctx.save_for_backward(gate, value, output[1])

    @staticmethod
    def backward(ctx, grad: Tensor, grad_scale: Tensor | None) -> tuple[Tensor | None, ...]:
        gate, value, scale = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *_differentiable(ctx, gate, value, grad, grad_scale), None, None
        with TritonLaunches('glu', gate, ctx.path) as launches:
            if launches is not None:
                return *launches.gate_gradients(grad, grad_scale, gate, value, scale), None, None
        activated = F.gelu(gate)
        if scale is not None:
            along = grad_scale * scale**3 / gate.shape[-1]
            grad = grad - (along * activated * value).to(grad.dtype)
        grad_gate = torch.mul(grad, value)
        torch.ops.aten.gelu_backward.grad_input(grad_gate, gate, grad_input=grad_gate)
        return grad_gate, activated.mul_(grad), None, None


def _differentiable(
    ctx, gate: Tensor, value: Tensor, grad: Tensor, grad_scale: Tensor | None
) -> tuple[Tensor | None, ...]:
    needed = ctx.needs_input_grad[:2]
    if ctx.eps is None:
        return differentiable_gradients(lambda *pair: _plain(*pair, None)[0], (gate, value), needed, grad)
    return differentiable_gradients(lambda *pair: _plain(*pair, ctx.eps), (gate, value), needed, (grad, grad_scale))
