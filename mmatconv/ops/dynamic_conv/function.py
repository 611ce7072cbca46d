"""The operator of Attentive Convolution: one public function that checks its arguments and chooses the path."""

import torch
from torch import Tensor

from mmatconv.ops.autocast import autocast_dtype
from mmatconv.ops.dynamic_conv.autograd import Convolve
from mmatconv.ops.dynamic_conv.custom_operator import convolve
from mmatconv.ops.dynamic_conv.grouped import grouped, grouped_in_one_call
from mmatconv.ops.dynamic_conv.reference import reference
from mmatconv.ops.padding import zero_padding
from mmatconv.ops.paths import choose, takes_triton
from mmatconv.ops.tracing import is_compiling, is_observed, opaque_before_custom_operators


@opaque_before_custom_operators
def dynamic_depthwise_conv2d(
    input: Tensor, kernel: Tensor, path: str | None = None, sizes: Tensor | None = None
) -> Tensor:
    """Convolve every channel of every sample with a kernel of its own (equation 11 of arXiv 2510.20092).

    ``output[b, c, i, j] = sum over u, v of kernel[b, c, u, v] * input[b, c, i + u - K // 2, j + v - K // 2]``
    with zeros outside the map: stride 1, zero padding ``K // 2``, cross-correlation as in all of torch.

    Differentiable in both arguments. Under autocast both are cast to the autocast dtype. torch.compile and torch.export
    see the operator ``mmatconv::dynamic_depthwise_conv2d``, or the plain operations of the reference.

    Args:
        input: (B, C, H, W), floating point, any strides.
        kernel: (B, C, K, K) with K odd, of the dtype and on the device of ``input``. The kernel's memory is best dense
            in the format of the input: channels innermost where the input is channels_last.
        path: What computes it. Default: the environment variable ``MMATCONV_OP``, or 'auto' without it.

            - 'auto': fused Triton kernels on CUDA and ROCm; 'grouped' elsewhere and, with a warning, where they cannot
              run;
            - 'grouped': torch's own depthwise convolution;
            - 'triton': the Triton kernels or an error;
            - 'reference': the definition in plain tensor operations.
        sizes: (B, 2), int32, on the device of ``input``: height and width of each map without its padding. From there
            on the input counts as zero, whatever it holds, and its gradient is zero. Default: None, no padding.

    Returns:
        (B, C, H, W), dtype of ``input``, dense in the memory format nearest to it.

    Raises:
        ValueError: A shape, dtype or device that does not fit; the message names what was given.
        UserError: An unknown path, or 'triton' where it cannot run.
    """
    _check(input, kernel, sizes)
    path = choose(input, path)
    cast_to = autocast_dtype(input.device.type)
    if cast_to is not None and torch.float64 not in (input.dtype, kernel.dtype):
        input, kernel = input.to(cast_to), kernel.to(cast_to)
    elif input.dtype != kernel.dtype:
        raise ValueError(
            f'input is {input.dtype} and kernel is {kernel.dtype}; convert one with .to(), or run under autocast.'
        )
    if not takes_triton(path):
        input, sizes = zero_padding(input, sizes), None
    if path == 'reference':
        return reference(input, kernel)
    if is_compiling() or (takes_triton(path) and is_observed()):
        return convolve(input, kernel, path, sizes)
    if path == 'grouped' and not input.is_cuda:
        # torch's own operations do, unless its gradients are slower than ours.
        if not (torch.is_grad_enabled() and (input.requires_grad or kernel.requires_grad)):
            return grouped(input, kernel)
        output = grouped_in_one_call(input, kernel)
        if output is not None:
            return output
    return Convolve.apply(input, kernel, path, sizes)


def _check(input: Tensor, kernel: Tensor, sizes: Tensor | None) -> None:
    if input.dim() != 4 or kernel.dim() != 4:
        raise ValueError(
            'dynamic_depthwise_conv2d expects input (B, C, H, W) and kernel (B, C, K, K), '
            f'but was given {tuple(input.shape)} and {tuple(kernel.shape)}.'
        )
    height, width = kernel.shape[-2:]
    if height != width or height % 2 == 0:
        raise ValueError(f'kernel must be square with an odd size, but is {height} x {width}.')
    if input.shape[:2] != kernel.shape[:2]:
        raise ValueError(
            'input and kernel must agree in batch and channels, '
            f'but are {tuple(input.shape[:2])} and {tuple(kernel.shape[:2])}.'
        )
    if 0 in input.shape[-2:]:
        raise ValueError(f'input must have at least one pixel, but is {tuple(input.shape)}.')
    if not (input.is_floating_point() and kernel.is_floating_point()):
        raise ValueError(f'input and kernel must be floating point, but are {input.dtype} and {kernel.dtype}.')
    if input.device != kernel.device:
        raise ValueError(f'input is on {input.device} and kernel on {kernel.device}; move both to one device.')
    if sizes is None:
        return
    if sizes.shape != (input.shape[0], 2) or sizes.dtype != torch.int32 or sizes.device != input.device:
        raise ValueError(
            f'sizes must be int32 and (B, 2) on {input.device}, '
            f'but is {sizes.dtype} and {tuple(sizes.shape)} on {sizes.device}.'
        )
