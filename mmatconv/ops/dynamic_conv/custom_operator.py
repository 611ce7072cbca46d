"""The dynamic depthwise convolution as one operator of torch, ``mmatconv::dynamic_depthwise_conv2d``.

torch.compile, torch.export and FLOP counters see a single call whatever runs inside, and one graph serves every batch
and map size. Gradients are an operator too, of which the gradients are again these two, to any order.
"""

import torch
from torch import Tensor

from mmatconv.ops import paths
from mmatconv.ops.memory_format import empty, nearest_format


def _backward_outputs(input: Tensor, kernel: Tensor, with_input: bool, with_kernel: bool) -> tuple[Tensor, Tensor]:
    """Empty gradients as every path returns them; an operator cannot return None, so that without elements means it."""
    memory_format = nearest_format(input)
    grad_input = empty(input.shape, input, memory_format) if with_input else input.new_empty(0)
    return grad_input, empty(kernel.shape, kernel, memory_format) if with_kernel else kernel.new_empty(0)


if hasattr(torch.library, 'custom_op'):

    @torch.library.custom_op('mmatconv::dynamic_depthwise_conv2d', mutates_args=())
    def convolve(input: Tensor, kernel: Tensor, path: str) -> Tensor:
        return paths.forward(input, kernel, path)

    @convolve.register_fake
    def _(input: Tensor, kernel: Tensor, path: str) -> Tensor:
        return empty(input.shape, input, nearest_format(input))

    @torch.library.custom_op('mmatconv::dynamic_depthwise_conv2d_backward', mutates_args=())
    def gradients(
        grad_output: Tensor, input: Tensor, kernel: Tensor, with_input: bool, with_kernel: bool, path: str
    ) -> tuple[Tensor, Tensor]:
        grad_input, grad_kernel = paths.backward(grad_output, input, kernel, with_input, with_kernel, path)
        return (
            input.new_empty(0) if grad_input is None else grad_input,
            kernel.new_empty(0) if grad_kernel is None else grad_kernel,
        )

    @gradients.register_fake
    def _(
        grad_output: Tensor, input: Tensor, kernel: Tensor, with_input: bool, with_kernel: bool, path: str
    ) -> tuple[Tensor, Tensor]:
        return _backward_outputs(input, kernel, with_input, with_kernel)

    def _save(ctx, inputs, output) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.path = inputs[2]

    def _convolve_backward(ctx, grad_output: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        with_input, with_kernel = ctx.needs_input_grad[:2]
        grad_input, grad_kernel = gradients(grad_output, *ctx.saved_tensors, with_input, with_kernel, ctx.path)
        return grad_input if with_input else None, grad_kernel if with_kernel else None, None

    convolve.register_autograd(_convolve_backward, setup_context=_save)

    def _save_gradients(ctx, inputs, output) -> None:
        ctx.save_for_backward(*inputs[:3])
        ctx.wanted = inputs[3:5]
        ctx.path = inputs[5]

    def _gradients_backward(ctx, grad_of_input: Tensor, grad_of_kernel: Tensor) -> tuple[Tensor | None, ...]:
        # Both gradients are bilinear, and <grad_output, convolve(input, kernel)> is all they come from.
        grad_output, input, kernel = ctx.saved_tensors
        with_input, with_kernel = ctx.wanted
        for_output = for_input = for_kernel = None
        if with_input:
            for_output = convolve(grad_of_input, kernel, ctx.path)
            for_kernel = gradients(grad_output, grad_of_input, kernel, False, True, ctx.path)[1]
        if with_kernel:
            through_kernel = convolve(input, grad_of_kernel, ctx.path)
            for_output = through_kernel if for_output is None else for_output + through_kernel
            for_input = gradients(grad_output, input, grad_of_kernel, True, False, ctx.path)[0]
        return for_output, for_input, for_kernel, None, None, None

    gradients.register_autograd(_gradients_backward, setup_context=_save_gradients)

else:

    class _Convolve(torch.autograd.Function):
        """The same for torch before 2.4, which has no custom operators in Python."""

        @staticmethod
        def forward(ctx, input: Tensor, kernel: Tensor, path: str) -> Tensor:
            ctx.save_for_backward(input, kernel)
            ctx.path = path
            return paths.forward(input, kernel, path)

        @staticmethod
        def backward(ctx, grad_output: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
            # torch's own operations all, for there is no Triton for it: they have gradients again.
            return *paths.backward(grad_output, *ctx.saved_tensors, *ctx.needs_input_grad[:2], ctx.path), None

    convolve = _Convolve.apply
