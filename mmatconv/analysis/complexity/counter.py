"""Parameters and FLOPs of a model through MMEngine's counter."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from mmengine.analysis import FlopAnalyzer, parameter_count
from torch import Tensor, nn

# Operators that multiply and add; what the counter estimates for others (norms, resampling) are not multiply-adds.
MULTIPLY_ADD = {
    'addmm',
    'baddbmm',
    'bmm',
    'conv',
    'dynamic_depthwise_conv2d',
    'einsum',
    'linear',
    'matmul',
    'mm',
    'scaled_dot_product_attention',
}


@dataclass(frozen=True)
class Complexity:
    """The count of one forward pass.

    Attributes:
        params: Parameters, trained or frozen, without buffers.
        flops: In the convention of fvcore and MMEngine: a multiply-add is one, LayerNorm 5 an element, BatchNorm 2 in
            evaluation mode, bilinear resampling 4, nearest 1, adaptive average pooling to a grid 1; all else nothing.
        macs: The multiply-adds among them.
        operators: FLOPs of the model by the name of the operator.
        modules: (params, flops, macs) of every submodule by its name.
        uncounted: Operators from outside torch that the counter has no rule for, and how often each is called.
    """

    params: int
    flops: int
    macs: int
    operators: Mapping[str, int]
    modules: Mapping[str, tuple[int, int, int]] = field(repr=False)
    uncounted: Mapping[str, int]


def baddbmm_flops(inputs: list[Any], outputs: list[Any]) -> int:
    """Multiply-adds of ``input + batch1 @ batch2``."""
    return prod(_shape(inputs[1])) * _shape(inputs[2])[-1]


def attention_flops(inputs: list[Any], outputs: list[Any]) -> int:
    """Multiply-adds of both products of scaled dot-product attention."""
    query, key, value = (_shape(entry) for entry in inputs[:3])
    return prod(query) * key[-2] + prod(query[:-1]) * key[-2] * value[-1]


def dynamic_convolution_flops(inputs: list[Any], outputs: list[Any]) -> int:
    """Multiply-adds of a kernel for each sample and channel: input (B, C, H, W), kernel (B, C, K, K)."""
    return prod(_shape(outputs[0])) * prod(_shape(inputs[1])[2:])


# What MMEngine's counter has no rule for. A rule takes the operator's inputs and outputs as values of the jit graph
# and returns its FLOPs; the name of an operator that multiplies and adds also belongs in MULTIPLY_ADD. Paths of the
# dynamic convolution that call torch's convolution are counted there, a custom operator of that name here.
RULES: dict[str, Callable[[list[Any], list[Any]], int]] = {
    'aten::baddbmm': baddbmm_flops,
    'aten::scaled_dot_product_attention': attention_flops,
    'mmatconv::dynamic_depthwise_conv2d': dynamic_convolution_flops,
}


def count(model: nn.Module, *shapes: tuple[int, ...]) -> Complexity:
    """Count one forward pass in evaluation mode on inputs of zeros.

    The pass runs on the device of the model. A model on the 'meta' device, made under
    ``torch.device(counting_device())``, has shapes and no numbers: any size is counted in about a second.

    Args:
        model: Called with one tensor for each shape. Left as it was.
        shapes: Of the inputs, for example ``(1, 3, 224, 224)``.
    """
    device = next(model.parameters()).device
    inputs = tuple(torch.zeros(shape, device=device) for shape in shapes)
    modes = {module: module.training for module in model.modules()}
    model.eval()
    analyzer = FlopAnalyzer(model, inputs).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analyzer.set_op_handle(**RULES)
    try:
        with _shapes_only() if device.type == 'meta' else nullcontext():
            by_module = analyzer.by_module_and_operator()
    finally:
        for module, mode in modes.items():
            module.training = mode
    params = parameter_count(model)
    modules = {
        name: (params.get(name, 0), int(sum(counts.values())), int(sum(counts[op] for op in MULTIPLY_ADD)))
        for name, counts in by_module.items()
    }
    uncounted = {op: times for op, times in analyzer.unsupported_ops().items() if not op.startswith('aten::')}
    return Complexity(*modules[''], operators=dict(by_module['']), modules=modules, uncounted=uncounted)


def counting_device() -> str:
    """The device to make a model on that is only counted: 'meta', or 'cpu' where torch is too old to trace there."""
    return 'meta' if 'allow_override' in inspect.signature(torch.library.Library.impl).parameters else 'cpu'


@contextmanager
def _shapes_only() -> Iterator[None]:
    """Makes convolutions traceable on the 'meta' device.

    Elsewhere torch runs, and jit records, ``_convolution`` inside ``convolution``. On 'meta' it works out the shape in
    Python instead, where the sizes of a trace are tensors, and fails.
    """
    with torch.library._scoped_library('aten', 'IMPL') as library:
        library.impl('convolution', _traced_convolution, 'Meta', allow_override=True)
        library.impl('_convolution', _convolution_shape, 'Meta', allow_override=True)
        yield


def _traced_convolution(*args: Any) -> Tensor:
    return torch._convolution(*args, False, False, False, False)


def _convolution_shape(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
    *flags: bool,
) -> Tensor:
    """An empty tensor of the shape and memory format of a convolution's output."""
    size = [int(x.shape[0]), int(weight.shape[1]) * int(groups) if transposed else int(weight.shape[0])]
    for i in range(weight.dim() - 2):
        step, pad, spread, extra = (
            int(value[i if len(value) > 1 else 0]) for value in (stride, padding, dilation, output_padding)
        )
        length, reach = int(x.shape[i + 2]), spread * (int(weight.shape[i + 2]) - 1) + 1
        if transposed:
            size.append((length - 1) * step - 2 * pad + reach + extra)
        else:
            size.append((length + 2 * pad - reach) // step + 1)
    innermost = x.dim() == 4 and x.stride(1) == 1 and not x.is_contiguous()
    memory_format = torch.channels_last if innermost else torch.contiguous_format
    return torch.empty(size, dtype=x.dtype, device=x.device, memory_format=memory_format)


def _shape(value: Any) -> list[int]:
    """The shape of a value of the jit graph."""
    return value.type().sizes()
