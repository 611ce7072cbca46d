"""The dynamic depthwise convolution and its gradients as autograd functions, which eager code calls.

Gradients are a function too, whose gradients are these two again, so that all of it can be differentiated to any order.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from mmatconv.ops.dynamic_conv.grouped import grouped, grouped_backward
from mmatconv.ops.paths import TritonLaunches


class Convolve(torch.autograd.Function):
    """(B, C, H, W), (B, C, K, K) and a path that ``paths.choose`` returned -> (B, C, H, W)."""

    @staticmethod
    def forward(input: Tensor, kernel: Tensor, path: str) -> Tensor:
        with TritonLaunches('dynamic_conv', input, path, kernel.shape[-1]) as launches:
            if launches is not None:
                return launches.convolve(input, kernel)
        return grouped(input, kernel)

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.path = inputs[2]

    @staticmethod
    def backward(ctx, grad_output: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        return convolve_backward(ctx, grad_output, Gradients.apply)


class Gradients(torch.autograd.Function):
    """The gradients of :class:`Convolve` to its input and kernel, None for one that is not wanted."""

    @staticmethod
    def forward(
        grad_output: Tensor, input: Tensor, kernel: Tensor, with_input: bool, with_kernel: bool, path: str
    ) -> tuple[Tensor | None, Tensor | None]:
        arguments = grad_output, input, kernel, with_input, with_kernel
        with TritonLaunches('dynamic_conv', input, path, kernel.shape[-1]) as launches:
            if launches is not None:
                return launches.gradients(*arguments)
        return grouped_backward(*arguments)

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: tuple) -> None:
        ctx.save_for_backward(*inputs[:3])
        ctx.wanted = inputs[3:5]
        ctx.path = inputs[5]

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return gradients_backward(ctx, *grads, Convolve.apply, Gradients.apply)


def convolve_backward(
    ctx, grad_output: Tensor, gradients: Callable[..., tuple]
) -> tuple[Tensor | None, Tensor | None, None]:
    """The backward pass of ``Convolve``; ``gradients`` is ``Gradients.apply`` or the custom operator."""
    with_input, with_kernel = ctx.needs_input_grad[:2]
    grad_input, grad_kernel = gradients(grad_output, *ctx.saved_tensors, with_input, with_kernel, ctx.path)
    return grad_input if with_input else None, grad_kernel if with_kernel else None, None


def gradients_backward(
    ctx, grad_of_input: Tensor, grad_of_kernel: Tensor, convolve: Callable[..., Tensor], gradients: Callable[..., tuple]
) -> tuple[Tensor | None, ...]:
    """The backward pass of ``Gradients``, which are bilinear: all of it comes from <grad_output, convolve(...)>."""
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
