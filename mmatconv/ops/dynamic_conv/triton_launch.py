"""Launches of the Triton kernels of the dynamic depthwise convolution."""

import torch
from torch import Tensor

from mmatconv.ops.dynamic_conv.triton_kernels import convolve_kernel, gradients_kernel
from mmatconv.ops.memory_format import empty, nearest_format
from mmatconv.ops.paths import Unsupported
from mmatconv.ops.triton_tiling import DTYPES, ceil_div, map_arguments, on_device, readable, sum_tiles

__all__ = ['DTYPES', 'convolve', 'gradients']

KERNEL_SIZES = (1, 3, 5, 7)
# Results that a thread holds for each row, and the rows of a group. Larger kernels leave fewer registers: these were
# chosen so that nothing spills on sm_80, sm_90 and gfx90a, which the compiler says without a GPU; docs/operator.md.
CONVOLVE_TILE = {1: (4, 8), 3: (4, 8), 5: (2, 4), 7: (2, 4)}
GRADIENTS_TILE = {1: (4, 4), 3: (2, 4), 5: (1, 4), 7: (1, 4)}
# Programs wanted at once for the gradients, some for each multiprocessor of the largest GPUs. Where the tiles are
# more, each sums over more rows and fewer partial sums are written.
PROGRAMS = 2048


def convolve(
    input: Tensor, kernel: Tensor, flip: bool = False, memory_format: torch.memory_format | None = None
) -> Tensor:
    """Depthwise convolution with a kernel for each sample and channel.

    Args:
        input: (B, C, H, W), any strides; copied once unless columns or channels are adjacent in memory.
        kernel: (B, C, K, K), K one of ``KERNEL_SIZES``; copied unless dense in the memory format of the result.
        flip: Turn the kernels by 180 degrees. Default: False.
        memory_format: Of the result. Default: the one nearest to the input's.

    Returns:
        (B, C, H, W).

    Raises:
        Unsupported: Another K.
    """
    size = kernel.shape[-1]
    if size not in KERNEL_SIZES:
        raise Unsupported(f'the kernel size is {size}, but there are kernels for {", ".join(map(str, KERNEL_SIZES))}')
    if memory_format is None:
        memory_format = nearest_format(input)
    output = empty(input.shape, input, memory_format)
    if not output.numel():
        return output
    input = readable(input, memory_format)
    kernel = kernel.contiguous(memory_format=memory_format)
    elements, rows = CONVOLVE_TILE[size]
    blocks, sizes, strides, constants = map_arguments((input, output), elements, min(elements, 4), memory_format)
    strips = ceil_div(input.shape[2], rows)
    with on_device(input):
        convolve_kernel[(input.shape[0] * blocks[0] * blocks[1] * strips,)](
            input, kernel, output, *sizes, *blocks, strips, *strides, K=size, FLIP=flip, ROWS=rows, **constants
        )
    return output


def gradients(
    grad_output: Tensor, input: Tensor, kernel: Tensor, with_input: bool = True, with_kernel: bool = True
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of :func:`convolve`, in one pass over both maps where both are wanted.

    Args:
        grad_output: (B, C, H, W), any strides.
        input: (B, C, H, W), any strides.
        kernel: (B, C, K, K).
        with_input: Whether the gradient to the input is wanted. Default: True.
        with_kernel: Whether the gradient to the kernel is wanted. Default: True.

    Returns:
        The gradients to input and kernel, both in the memory format nearest to the input's; None if not wanted.

    Raises:
        Unsupported: Another K.
    """
    size = kernel.shape[-1]
    if size not in KERNEL_SIZES:
        raise Unsupported(f'the kernel size is {size}, but there are kernels for {", ".join(map(str, KERNEL_SIZES))}')
    memory_format = nearest_format(input)
    if not with_kernel:
        return convolve(grad_output, kernel, True, memory_format) if with_input else None, None
    grad_input = empty(input.shape, input, memory_format) if with_input else None
    grad_kernel = empty(kernel.shape, kernel, memory_format)
    if not input.numel():
        return grad_input, grad_kernel
    grad_output, input = readable(grad_output, memory_format), readable(input, memory_format)
    kernel = kernel.contiguous(memory_format=memory_format)
    y = input if grad_input is None else grad_input  # only its strides are read
    elements, rows = GRADIENTS_TILE[size]
    maps = grad_output, input, y
    blocks, sizes, strides, constants = map_arguments(maps, elements, min(elements, 4), memory_format)
    batch, _, height, _ = input.shape
    row_groups = ceil_div(height, rows)
    groups = ceil_div(row_groups, max(1, PROGRAMS // (batch * blocks[0] * blocks[1])))
    strips = ceil_div(row_groups, groups)
    tiles = strips * blocks[1]
    partial = grad_kernel
    if tiles > 1:
        dtype = torch.float64 if input.dtype == torch.float64 else torch.float32
        partial = torch.empty((tiles, grad_kernel.numel()), dtype=dtype, device=input.device)
    with on_device(input):
        gradients_kernel[(batch * blocks[0] * blocks[1] * strips,)](
            grad_output, input, kernel, y, partial, *sizes, *blocks, strips, groups, *strides,
            K=size, WITH_INPUT=grad_input is not None, ROWS=rows, **constants,
        )  # fmt: skip
        if tiles > 1:
            sum_tiles(partial, grad_kernel)
    return grad_input, grad_kernel
