"""Whether torch records the operations instead of only running them."""

import torch

if hasattr(torch.compiler, 'is_compiling'):
    is_compiling = torch.compiler.is_compiling
else:  # torch before 2.3
    from torch._dynamo import is_compiling


def is_traced() -> bool:
    """Whether torch.compile, torch.export or torch.jit.trace is at work, which see plain operations best."""
    return is_compiling() or torch.jit.is_tracing()
