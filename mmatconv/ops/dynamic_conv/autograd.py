"""The dynamic depthwise convolution and its gradients as autograd functions, which eager code calls.

Gradients are a function too, whose gradients are these two again, so that all of it can be differentiated to any order.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from mmatconv.ops.autograd_function import Function
from mmatconv.ops.dynamic_conv.grouped import grouped, grouped_backward
from mmatconv.ops.padding import zero_padding
from mmatconv.ops.paths import TritonLaunches


class Convolve(Function):
    """(B, C, H, W), (B, C, K, K), a path that ``paths.choose`` returned, sizes (B, 2) or None -> (B, C, H, W)."""

    @staticmethod
    def forward(input: Tensor, kernel: Tensor, path: str, sizes: Tensor | None) -> Tensor:
        with TritonLaunches('dynamic_conv', input, path, kernel.shape[-1]) as launches:
            if launches is not None:
                return launches.convolve(input, kernel, sizes=sizes)
        return grouped(zero_padding(input, sizes), kernel)

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: Tensor) -> None:
        input, kernel, ctx.path, sizes = inputs
        ctx.save_for_backward(input, kernel, sizes)

    @staticmethod
    def backward(ctx, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return convolve_backward(ctx, grad_output, Gradients.apply if torch.is_grad_enabled() else Gradients.forward)


class Gradients(Function):
    """The gradients of :class:`Convolve` to its input and kernel, None for one that is not wanted."""

    @staticmethod
    def forward(
        grad_output: Tensor,
        input: Tensor,
        kernel: Tensor,
        with_input: bool,
        with_kernel: bool,
        path: str,
        sizes: Tensor | None,
    ) -> tuple[Tensor | None, Tensor | None]:
        with TritonLaunches('dynamic_conv', input, path, kernel.shape[-1]) as launches:
            if launches is not None:
                return launches.gradients(grad_output, input, kernel, with_input, with_kernel, sizes)
        input = zero_padding(input, sizes)
        grad_input, grad_kernel = grouped_backward(grad_output, input, kernel, with_input, with_kernel)
        return zero_padding(grad_input, sizes) if with_input else None, grad_kernel

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: tuple) -> None:
        *tensors, with_input, with_kernel, ctx.path, sizes = inputs
        ctx.save_for_backward(*tensors, sizes)
        ctx.wanted = with_input, with_kernel

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return gradients_backward(ctx, *grads, Convolve.apply, Gradients.apply)


def convolve_backward(ctx, grad_output: Tensor, gradients: Callable[..., tuple]) -> tuple[Tensor | None, ...]:
    """The backward pass of ``Convolve``; ``gradients`` is ``Gradients.apply`` or the custom operator."""
    with_input, with_kernel = ctx.needs_input_grad[:2]
    input, kernel, sizes = ctx.saved_tensors
    grad_input, grad_kernel = gradients(grad_output, input, kernel, with_input, with_kernel, ctx.path, sizes)
    return grad_input if with_input else None, grad_kernel if with_kernel else None, None, None


def gradients_backward(
    ctx, grad_of_input: Tensor, grad_of_kernel: Tensor, convolve: Callable[..., Tensor], gradients: Callable[..., tuple]
) -> tuple[Tensor | None, ...]:
    """The backward pass of ``Gradients``, which are bilinear: all of it comes from <grad_output, convolve(...)>."""
    grad_output, input, kernel, sizes = ctx.saved_tensors
    with_input, with_kernel = ctx.wanted
    for_output = for_input = for_kernel = None
    if with_input:
        for_output = convolve(grad_of_input, kernel, ctx.path, sizes)
        for_kernel = gradients(grad_output, grad_of_input, kernel, False, True, ctx.path, sizes)[1]
    if with_kernel:
        through_kernel = convolve(input, grad_of_kernel, ctx.path, sizes)
        for_output = through_kernel if for_output is None else for_output + through_kernel
        for_input = gradients(grad_output, input, grad_of_kernel, True, False, ctx.path, sizes)[0]
    return for_output, for_input, for_kernel, None, None, None, None
