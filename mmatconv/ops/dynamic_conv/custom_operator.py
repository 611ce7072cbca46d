"""The dynamic depthwise convolution as an operator of torch, ``mmatconv::dynamic_depthwise_conv2d``, and its gradients.

torch.compile and torch.export see a single call whatever runs inside, and one graph serves every batch
and map size. Eager code calls ``autograd.py`` instead, whose functions cost a fifth of an operator's call.
"""

import torch
from torch import Tensor

from mmatconv.ops.dynamic_conv.autograd import Convolve, Gradients, convolve_backward, gradients_backward
from mmatconv.ops.memory_format import empty, nearest_format
from mmatconv.ops.paths import choose
from mmatconv.ops.tracing import HAS_CUSTOM_OPERATORS

# torch before 2.4 has no custom operators in Python, and sees the function.
convolve = Convolve.apply

if HAS_CUSTOM_OPERATORS:

    @torch.library.custom_op('mmatconv::dynamic_depthwise_conv2d', mutates_args=())
    def convolve(input: Tensor, kernel: Tensor, path: str, sizes: Tensor | None = None) -> Tensor:
        return Convolve.forward(input, kernel, choose(input, path), sizes)

    @convolve.register_fake
    def _(input: Tensor, kernel: Tensor, path: str, sizes: Tensor | None = None) -> Tensor:
        return empty(input.shape, input, nearest_format(input))

    @torch.library.custom_op('mmatconv::dynamic_depthwise_conv2d_backward', mutates_args=())
    def gradients(
        grad_output: Tensor,
        input: Tensor,
        kernel: Tensor,
        with_input: bool,
        with_kernel: bool,
        path: str,
        sizes: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        grads = Gradients.forward(grad_output, input, kernel, with_input, with_kernel, choose(input, path), sizes)
        # An operator cannot return None: a tensor without elements stands for it.
        return tuple(input.new_empty(0) if grad is None else grad for grad in grads)

    @gradients.register_fake
    def _(
        grad_output: Tensor,
        input: Tensor,
        kernel: Tensor,
        with_input: bool,
        with_kernel: bool,
        path: str,
        sizes: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        memory_format = nearest_format(input)
        return (
            empty(input.shape, input, memory_format) if with_input else input.new_empty(0),
            empty(kernel.shape, kernel, memory_format) if with_kernel else kernel.new_empty(0),
        )

    convolve.register_autograd(
        lambda ctx, grad: convolve_backward(ctx, grad, gradients), setup_context=Convolve.setup_context
    )
    gradients.register_autograd(
        lambda ctx, *grads: gradients_backward(ctx, *grads, convolve, gradients),
        setup_context=Gradients.setup_context,
    )
