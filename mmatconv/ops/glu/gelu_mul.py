"""The gate of a gated linear unit."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmatconv.ops.glu import custom_operator as gated_operator
from mmatconv.ops.gradients import differentiable_gradients
from mmatconv.ops.paths import takes_triton
from mmatconv.ops.tracing import is_traced


def gelu_mul(gate: Tensor, value: Tensor) -> Tensor:
    """``gelu(gate) * value`` that keeps its two inputs for the backward pass and nothing else.

    As two operations torch would also keep the GELU, a third map of the hidden size.

    Args:
        gate: Any shape.
        value: The same shape and dtype.

    Returns:
        The same shape.
    """
    if is_traced():
        return _plain(gate, value)
    if takes_triton(gate):
        return gated_operator.gelu_mul(gate, value)
    return _GeluMul.apply(gate, value)


def _plain(gate: Tensor, value: Tensor) -> Tensor:
    return F.gelu(gate) * value


class _GeluMul(torch.autograd.Function):
    @staticmethod
    def forward(ctx, gate: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(gate, value)
        return F.gelu(gate).mul_(value)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:
        gate, value = ctx.saved_tensors
        if torch.is_grad_enabled():
            return differentiable_gradients(_plain, (gate, value), ctx.needs_input_grad, grad)
        grad_gate = torch.mul(grad, value)
        torch.ops.aten.gelu_backward.grad_input(grad_gate, gate, grad_input=grad_gate)
        return grad_gate, F.gelu(gate).mul_(grad)
