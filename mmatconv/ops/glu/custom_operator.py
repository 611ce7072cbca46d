"""The gate of a gated linear unit for GPUs, as an operator of torch: one launch forward and one backward.

Only eager code calls it. A compiler sees the plain expression instead, which it fuses by itself, with more of what
stands around it than an operator lets it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmatconv.ops.cpu.rms_linear import rms_scale
from mmatconv.ops.gradients import differentiable_gradients
from mmatconv.ops.paths import run_step

NAME = 'the gated linear unit'
MODULE = 'glu.triton_launch'


def gelu_mul(gate: Tensor, value: Tensor) -> Tensor:
    """``gelu(gate) * value`` in float32 (float64 for float64), rounded once.

    Args:
        gate: Any shape and strides.
        value: The same shape and dtype, any strides.

    Returns:
        The same shape, contiguous.
    """
    return torch.ops.mmatconv.gelu_mul(gate, value, None)[0]


def gelu_mul_scale(gate: Tensor, value: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """:func:`gelu_mul` and what RMSNorm multiplies each row of it by, without another reading.

    Args:
        gate: (..., D), any strides.
        value: The same shape and dtype, any strides.
        eps: Added to the mean square.

    Returns:
        The product (..., D), contiguous, and ``1 / sqrt(mean(product ** 2) + eps)``, (..., 1), in float32 for half
        precision.
    """
    return torch.ops.mmatconv.gelu_mul(gate, value, eps)


def _plain(gate: Tensor, value: Tensor, eps: float | None) -> tuple[Tensor, Tensor | None]:
    product = F.gelu(gate) * value
    return product, None if eps is None else rms_scale(product, eps)


def _plain_gradients(
    grad: Tensor, grad_scale: Tensor | None, gate: Tensor, value: Tensor, scale: Tensor | None
) -> tuple[Tensor, Tensor]:
    activated = F.gelu(gate)
    if scale is not None:
        along = grad_scale * scale**3 / gate.shape[-1]
        grad = grad - (along * activated * value).to(grad.dtype)
    return torch.ops.aten.gelu_backward(grad * value, gate).contiguous(), (grad * activated).contiguous()


if hasattr(torch.library, 'custom_op'):

    @torch.library.custom_op('mmatconv::gelu_mul', mutates_args=())
    def _operator(gate: Tensor, value: Tensor, eps: float | None) -> tuple[Tensor, Tensor]:
        product, scale = run_step(
            NAME, gate, MODULE, lambda triton: triton.gate(gate, value, eps), lambda: _plain(gate, value, eps)
        )
        return product.contiguous(), gate.new_empty(0) if scale is None else scale.contiguous()

    @_operator.register_fake
    def _(gate: Tensor, value: Tensor, eps: float | None) -> tuple[Tensor, Tensor]:
        if eps is None:
            return gate.new_empty(gate.shape), gate.new_empty(0)
        wide = torch.float64 if gate.dtype == torch.float64 else torch.float32
        return gate.new_empty(gate.shape), gate.new_empty((*gate.shape[:-1], 1), dtype=wide)

    @torch.library.custom_op('mmatconv::gelu_mul_backward', mutates_args=())
    def _gradients_operator(
        grad: Tensor, grad_scale: Tensor | None, gate: Tensor, value: Tensor, scale: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        arguments = grad, grad_scale, gate, value, scale
        return run_step(
            NAME,
            gate,
            MODULE,
            lambda triton: triton.gate_gradients(*arguments),
            lambda: _plain_gradients(*arguments),
        )

    @_gradients_operator.register_fake
    def _(
        grad: Tensor, grad_scale: Tensor | None, gate: Tensor, value: Tensor, scale: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        return gate.new_empty(gate.shape), gate.new_empty(gate.shape)

    def _save(ctx, inputs, output) -> None:
        gate, value, ctx.eps = inputs
        ctx.save_for_backward(gate, value, output[1])

    def _backward(ctx, grad: Tensor, grad_scale: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        gate, value, scale = ctx.saved_tensors
        with_scale = ctx.eps is not None
        if torch.is_grad_enabled():
            plain, grads = (_plain, (grad, grad_scale)) if with_scale else (lambda *pair: _plain(*pair)[0], grad)
            arguments = (gate, value, ctx.eps) if with_scale else (gate, value, None)
            return *differentiable_gradients(plain, arguments, ctx.needs_input_grad[:2], grads), None
        if not with_scale:
            return *_gradients_operator(grad, None, gate, value, None), None
        return *_gradients_operator(grad, grad_scale, gate, value, scale), None

    _operator.register_autograd(_backward, setup_context=_save)
