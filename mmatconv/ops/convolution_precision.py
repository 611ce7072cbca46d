"""Products that stand in for 1x1 convolutions, in the precision torch's convolutions would have.

On CUDA torch lets cuDNN round the float32 operands of a convolution to TF32 (``torch.backends.cudnn.allow_tf32`` is
True), and those of a product not (``torch.backends.cuda.matmul.allow_tf32`` is False): a product in the place of a
convolution would be several times slower than it. No product of torch takes a precision as an argument, so the setting
is changed while one is launched; threads that launch products at that moment see it. What is compiled keeps the setting
of products.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.backends import cuda, cudnn

from mmatconv.ops.autocast import autocast_dtype
from mmatconv.ops.gradients import differentiable_gradients
from mmatconv.ops.tracing import is_traced

# torch before 2.9 has one pair of flags, which later releases still read, but cannot restore without a trace.
HAS_FP32_PRECISION = hasattr(cudnn, 'conv')


def differs_from_convolutions(x: Tensor) -> bool:
    """Whether torch would multiply ``x`` in another precision than it convolves it: float32 on CUDA in eager mode."""
    return (
        x.dtype == torch.float32
        and x.is_cuda
        and not is_traced()
        and autocast_dtype('cuda') is None
        and _convolutions_take_tf32() != _products_take_tf32()
    )


def _convolutions_take_tf32() -> bool:
    return cudnn.conv.fp32_precision == 'tf32' if HAS_FP32_PRECISION else cudnn.allow_tf32


def _products_take_tf32() -> bool:
    return cuda.matmul.fp32_precision == 'tf32' if HAS_FP32_PRECISION else cuda.matmul.allow_tf32


@contextmanager
def precision_of_convolutions() -> Iterator[None]:
    """A context in which float32 products on CUDA have the precision of convolutions."""
    name = 'fp32_precision' if HAS_FP32_PRECISION else 'allow_tf32'
    before, tf32 = getattr(cuda.matmul, name), _convolutions_take_tf32()
    setattr(cuda.matmul, name, ('tf32' if tf32 else 'ieee') if HAS_FP32_PRECISION else tf32)
    try:
        yield
    finally:
        setattr(cuda.matmul, name, before)


class Linear(torch.autograd.Function):
    """``x @ weight.T + bias``, forward and backward with :func:`precision_of_convolutions`."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        with precision_of_convolutions():
            return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        with precision_of_convolutions():
            if torch.is_grad_enabled():
                return differentiable_gradients(F.linear, (x, weight, bias), ctx.needs_input_grad, grad)
            rows = grad.flatten(0, -2)
            grad_x = grad @ weight if for_x else None
            grad_weight = rows.t() @ x.flatten(0, -2) if for_weight else None
        return grad_x, grad_weight, rows.sum(0) if for_bias else None
