"""The dynamic depthwise convolution through torch's own depthwise convolution: the path for CPU and the fallback."""

import torch
from torch import Tensor

from mmatconv.ops.memory_format import empty, is_channels_last, nearest_format

# Elements of the map that one call of torch's convolution gets on a CPU where the batch is split: enough to hide what a
# call costs by itself, few enough for the copies around it to stay in the cache. A contiguous map needs no copies, and
# is split only where the memory torch needs on the way is so large that the system takes it back after every call.
# These and the choices below were measured: docs/operator.md.
CALL_ELEMENTS = 2**20
CONTIGUOUS_ELEMENTS = 2**22
# Contiguous samples of this size gain nothing from calls of their own.
LARGE_SAMPLE = 2**22
# In channels_last a sample of this size gets a call of its own, without the copies, in a batch that the cache holds.
OWN_CALL_ELEMENTS, CACHED_ELEMENTS = 2**17, 2**21
# Pixels of a map that is too small for what channels_last saves: backward, and forward in a batch of so many elements.
SMALL_MAP = 16 * 16
TINY_MAP, TINY_ELEMENTS = 7 * 7, 2**18


def grouped(input: Tensor, kernel: Tensor) -> Tensor:
    """Depthwise convolution with a kernel for each sample and channel: samples become groups of channels.

    Args:
        input: (B, C, H, W), any strides.
        kernel: (B, C, K, K), K odd.

    Returns:
        (B, C, H, W) in the memory format nearest to the input's.
    """
    memory_format = nearest_format(input)
    keeps_format = input.device.type == 'cpu' and not _is_tiny(input, kernel.shape[-1])
    work_format = memory_format if keeps_format else torch.contiguous_format
    input = input.contiguous(memory_format=work_format)
    parts = _parts(input, work_format)
    if len(parts) == 1:
        return _convolve(_fold(input), kernel).contiguous(memory_format=memory_format)
    output = empty(input.shape, input, memory_format)
    for part in parts:
        output[part] = _convolve(_fold(input[part]), kernel[part])
    return output


def _is_tiny(x: Tensor, size: int) -> bool:
    """Whether a kernel above 3 x 3 reaches beyond a map of several samples nearly everywhere."""
    batch, _, height, width = x.shape
    few = batch > 1 and height * width <= TINY_MAP and x.numel() <= TINY_ELEMENTS
    return few and size > 3


def grouped_backward(
    grad_output: Tensor, input: Tensor, kernel: Tensor, with_input: bool = True, with_kernel: bool = True
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of :func:`grouped`.

    Args:
        grad_output: (B, C, H, W), any strides.
        input: (B, C, H, W), any strides.
        kernel: (B, C, K, K), K odd.
        with_input: Whether the gradient to the input is wanted. Default: True.
        with_kernel: Whether the gradient to the kernel is wanted. Default: True.

    Returns:
        The gradients to input and kernel, both in the memory format nearest to the input's; None if not wanted.
    """
    memory_format = nearest_format(input)
    if not with_kernel:
        grad_output = grad_output.contiguous(memory_format=memory_format)
        return (grouped(grad_output, kernel.flip(2, 3)) if with_input else None), None
    work_format, parts = _backward_plan(input, kernel.shape[-1], memory_format)
    if len(parts) == 1:
        grad_input, grad_kernel = _gradients(grad_output, input, kernel, with_input, work_format)
        if with_input:
            grad_input = grad_input.contiguous(memory_format=memory_format)
        return grad_input, grad_kernel.contiguous(memory_format=memory_format)
    grad_input = empty(input.shape, input, memory_format) if with_input else None
    grad_kernel = empty(kernel.shape, kernel, memory_format)
    for part in parts:
        grad_x, grad_kernel[part] = _gradients(grad_output[part], input[part], kernel[part], with_input, work_format)
        if with_input:
            grad_input[part] = grad_x
    return grad_input, grad_kernel


def grouped_in_one_call(input: Tensor, kernel: Tensor) -> Tensor | None:
    """:func:`grouped` with torch's own gradients, where one call is best for the backward pass; None elsewhere."""
    memory_format = nearest_format(input)
    work_format, parts = _backward_plan(input, kernel.shape[-1], memory_format)
    if len(parts) != 1:
        return None
    input = input.contiguous(memory_format=work_format)
    return _convolve(_fold(input), kernel).contiguous(memory_format=memory_format)


def _backward_plan(
    input: Tensor, size: int, memory_format: torch.memory_format
) -> tuple[torch.memory_format, list[slice]]:
    """In which memory format, and for which samples at a time, torch is asked for the gradients.

    A GPU is asked for contiguous maps: torch's own depthwise kernels read them, and no others.

    On a CPU and for kernels above 3 x 3 oneDNN's gradient to the kernel takes most of the time: it is several times
    faster in channels_last, unless the map is small or the call has many channels.
    """
    if input.device.type != 'cpu':
        return torch.contiguous_format, _parts(input, torch.contiguous_format)
    if size > 3:
        _, channels, height, width = input.shape
        if height * width <= SMALL_MAP:
            return torch.contiguous_format, _parts(input, torch.contiguous_format)
        if memory_format == torch.channels_last or channels * height * width <= CALL_ELEMENTS:
            return torch.channels_last, [slice(i, i + 1) for i in range(input.shape[0])]
    return memory_format, _parts(input, memory_format)


def _parts(x: Tensor, memory_format: torch.memory_format) -> list[slice]:
    """Slices of the batch for one call each; a GPU gets all in one, an empty map none."""
    batch = x.shape[0]
    elements = x.numel()
    if not elements:
        return []
    limit = CALL_ELEMENTS if memory_format == torch.channels_last else CONTIGUOUS_ELEMENTS
    if memory_format == torch.channels_last and elements <= CACHED_ELEMENTS and elements >= OWN_CALL_ELEMENTS * batch:
        limit = OWN_CALL_ELEMENTS
    too_large = memory_format == torch.contiguous_format and elements >= LARGE_SAMPLE * batch
    if elements <= limit or too_large or x.device.type != 'cpu':
        return [slice(0, batch)]
    step = max(1, min(limit, CALL_ELEMENTS) * batch // elements)
    return [slice(first, first + step) for first in range(0, batch, step)]


def _convolve(x: Tensor, kernel: Tensor) -> Tensor:
    """One call of torch's convolution on a folded map, (1, B * C, H, W) and (B, C, K, K) -> (B, C, H, W).

    The result has the values, not always the memory format.
    """
    dtype = _computed_dtype(x)
    batch, channels, size, _ = kernel.shape
    weight = kernel.to(dtype).reshape(batch * channels, 1, size, size)
    pad = [size // 2, size // 2]
    y = torch.convolution(x.to(dtype), weight, None, [1, 1], pad, [1, 1], False, [0, 0], batch * channels)
    return _unfold(y.to(x.dtype), torch.Size((batch, channels, *x.shape[2:])))


def _gradients(
    grad_output: Tensor, x: Tensor, kernel: Tensor, with_input: bool, memory_format: torch.memory_format
) -> tuple[Tensor | None, Tensor]:
    """The backward pass of one call, computed in a memory format."""
    dtype = _computed_dtype(x)
    groups, size = kernel.shape[:2].numel(), kernel.shape[-1]
    g, x = (t.to(dtype).contiguous(memory_format=memory_format) for t in (grad_output, x))
    weight = kernel.to(dtype).reshape(groups, 1, size, size)
    pad, wanted = [size // 2, size // 2], [with_input, True, False]
    grad_x, grad_kernel, _ = torch.ops.aten.convolution_backward(
        _fold(g), _fold(x), weight, None, [1, 1], pad, [1, 1], False, [0, 0], groups, wanted
    )
    grad_kernel = grad_kernel.reshape(kernel.shape).to(kernel.dtype)
    return _unfold(grad_x, x.shape).to(grad_output.dtype) if with_input else None, grad_kernel


def _computed_dtype(x: Tensor) -> torch.dtype:
    """A CPU computes half precision in float32: torch's backward pass in bfloat16 is several times slower."""
    return torch.float32 if x.device.type == 'cpu' and x.element_size() == 2 else x.dtype


def _fold(x: Tensor) -> Tensor:
    """Dense (B, C, H, W) -> (1, B * C, H, W), same memory format; a copy for channels_last of several samples only."""
    batch, channels, height, width = x.shape
    if is_channels_last(x):  # one sample too, whose stride over the batch may mislead torch's choice of an algorithm
        return x.permute(2, 3, 0, 1).reshape(1, height, width, batch * channels).permute(0, 3, 1, 2)
    return x.reshape(1, batch * channels, height, width)


def _unfold(x: Tensor, shape: torch.Size) -> Tensor:
    """(1, B * C, H, W) -> (B, C, H, W), never a copy."""
    return x if shape[0] == 1 else x.view(shape)
