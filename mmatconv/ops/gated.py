"""The gate of a gated linear unit."""

import torch
import torch.nn.functional as F
from torch import Tensor

from . import gated_operator
from .gradients import differentiable_gradients
from .paths import takes_triton
from .tracing import is_traced

# Elements worked on at a time on a CPU, so that what one step writes is still in the cache for the next.
CHUNK = 1 << 18


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


def _chunks(*tensors: Tensor) -> list[tuple[Tensor, ...]]:
    """Matching flat pieces of contiguous tensors; other tensors, and other devices, stay whole."""
    if tensors[0].device.type != 'cpu' or not all(tensor.is_contiguous() for tensor in tensors):
        return [tensors]
    return list(zip(*(tensor.view(-1).split(CHUNK) for tensor in tensors)))


class _GeluMul(torch.autograd.Function):
    @staticmethod
    def forward(ctx, gate: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(gate, value)
        output = torch.empty_like(gate)
        for out, g, v in _chunks(output, gate, value):
            torch.ops.aten.gelu.out(g, out=out).mul_(v)
        return output

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:
        gate, value = ctx.saved_tensors
        if torch.is_grad_enabled():
            return differentiable_gradients(_plain, (gate, value), ctx.needs_input_grad, grad)
        grad_gate, grad_value = torch.empty_like(gate), torch.empty_like(value)
        for out_gate, out_value, g, v, d in _chunks(grad_gate, grad_value, gate, value, grad):
            torch.ops.aten.gelu_backward.grad_input(torch.mul(d, v, out=out_value), g, grad_input=out_gate)
            torch.ops.aten.gelu.out(g, out=out_value).mul_(d)
        return grad_gate, grad_value
