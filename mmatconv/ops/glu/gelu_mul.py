"""The gate of a gated linear unit: an autograd function that keeps its two inputs for the backward pass, nothing else.

As two operations torch would also keep the GELU, a third map of the hidden size. A compiler or counter sees the plain
expression instead, which a compiler fuses with its neighbours.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmatconv.ops.autograd_function import Function
from mmatconv.ops.gradients import differentiable_gradients
from mmatconv.ops.paths import TritonLaunches, takes_triton
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
        return _plain(gate, value)
    return _GeluMul.apply(gate, value, path)


def _plain(gate: Tensor, value: Tensor) -> Tensor:
    return F.gelu(gate) * value


class _GeluMul(Function):
    @staticmethod
    def forward(gate: Tensor, value: Tensor, path: str) -> Tensor:
        with TritonLaunches('glu', gate, path) as launches:
            if launches is not None:
                return launches.gate(gate, value)
        return F.gelu(gate).mul_(value)

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: Tensor) -> None:
        *maps, ctx.path = inputs
        ctx.save_for_backward(*maps)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        gate, value = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *differentiable_gradients(_plain, (gate, value), ctx.needs_input_grad[:2], grad), None
        with TritonLaunches('glu', gate, ctx.path) as launches:
            if launches is not None:
                return *launches.gate_gradients(grad, gate, value), None
        grad_gate = torch.mul(grad, value)
        torch.ops.aten.gelu_backward.grad_input(grad_gate, gate, grad_input=grad_gate)
        return grad_gate, F.gelu(gate).mul_(grad), None
