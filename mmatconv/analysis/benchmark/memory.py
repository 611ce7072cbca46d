"""Peak memory of one call.

The figure is what a process with this candidate alone would have in tensors at the worst moment: what it holds
between calls (weights, buffers, inputs, the state of the optimizer) plus the most that one call allocates on top
(activations, gradients, workspaces). Candidates share a process here, so both parts are taken by difference.

On CUDA the second part is ``max_memory_allocated`` less what was allocated before the call. On a CPU it is the
highest sum of the allocations and releases that torch's profiler records, in their order: exact to the byte and
repeatable, where the resident set of the process is neither, because allocators keep freed pages. What oneDNN and the
BLAS allocate for themselves, past torch's allocator, is not in it.
"""

import os
from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile


def held_bytes(tensors: Iterable[Tensor | None]) -> int:
    """Bytes behind tensors, memory that several share counted once."""
    storages = {}
    for tensor in tensors:
        if tensor is not None:
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def peak_growth(call: Callable[[], object], device: str) -> int:
    """The most bytes that one call allocates beyond what was there before it.

    Args:
        call: Run once.
        device: 'cpu' or 'cuda'.
    """
    if device == 'cuda':
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    # The profiler's library reports every start on stderr.
    os.environ.setdefault('KINETO_LOG_LEVEL', '99')
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        call()
    changes = [event for event in record.profiler.kineto_results.events() if event.name() == '[memory]']
    total = peak = 0
    for change in sorted(changes, key=lambda event: event.start_ns()):
        total += change.nbytes()
        peak = max(peak, total)
    return peak
