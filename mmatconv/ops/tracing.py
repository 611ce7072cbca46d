"""Whether torch records the operations instead of only running them."""

import torch

_is_compiling = getattr(torch.compiler, 'is_compiling', lambda: False)  # the first versions with a compiler lack it


def is_compiled() -> bool:
    """Whether torch.compile or torch.export is at work, for which sizes may be formulas."""
    return _is_compiling()


def is_traced() -> bool:
    """Whether torch.compile, torch.export or torch.jit.trace is at work, which see plain operations best."""
    return _is_compiling() or torch.jit.is_tracing()
