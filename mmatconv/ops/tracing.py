"""Whether torch records the operations instead of only running them."""

from collections.abc import Callable

import torch

_disable = None
if hasattr(torch.library, 'custom_op'):
    is_compiling = torch.compiler.is_compiling
else:  # torch before 2.4
    try:
        from torch._dynamo import disable as _disable
        from torch._dynamo import is_compiling
    except ImportError:  # its compiler needs numpy

        def is_compiling() -> bool:
            return False


def is_traced() -> bool:
    """Whether torch.compile, torch.export or torch.jit.trace is at work, which see plain operations best."""
    return is_compiling() or torch.jit.is_tracing()


def opaque_before_custom_operators(function: Callable) -> Callable:
    """Keep the compiler of torch before 2.4 out of ``function``, for want of an operator: its graph breaks there."""
    return function if _disable is None else _disable(function)
