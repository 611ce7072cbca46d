"""Whether torch records the operations instead of only running them."""

from collections.abc import Callable

import torch
from torch import Tensor

HAS_CUSTOM_OPERATORS = hasattr(torch.library, 'custom_op')
HAS_EXPORT_FLAG = hasattr(torch.compiler, 'is_exporting')
_disable = None
if HAS_CUSTOM_OPERATORS:
    is_compiling = torch.compiler.is_compiling
else:  # torch before 2.4
    try:
        from torch._dynamo import disable as _disable
        from torch._dynamo import is_compiling
    except ImportError:  # its compiler needs numpy

        def is_compiling() -> bool:
            return False


def is_exporting() -> bool:
    """Whether torch.export or torch.onnx.export is at work, whose programs run where this package is not.

    torch before 2.7 does not tell torch.export from torch.compile.
    """
    return torch.onnx.is_in_onnx_export() or (HAS_EXPORT_FLAG and torch.compiler.is_exporting())


def is_traced() -> bool:
    """Whether torch.compile, torch.export or torch.jit.trace is at work, which see plain operations best."""
    return is_compiling() or torch.jit.is_tracing()


# Set while the benchmark counts what a GPU is given, without one: any tensor then counts as one of a GPU.
gpu_is_pretended = False


def is_on_gpu(x: Tensor) -> bool:
    """Whether ``x`` lies on a GPU of CUDA or ROCm, or is taken as if it did."""
    return x.is_cuda or gpu_is_pretended


def is_observed() -> bool:
    """Whether something looks at the operations one by one: a tracer, a mode of fake tensors.

    Launches of Triton kernels are invisible to these; a custom operator is not.
    """
    return is_traced() or (torch._C._len_torch_dispatch_stack() > 0 and not gpu_is_pretended)


def opaque_before_custom_operators(function: Callable) -> Callable:
    """Exclude ``function`` from compilation by torch before 2.4, which has no custom operator to put in its place."""
    return function if _disable is None else _disable(function)
