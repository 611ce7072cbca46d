"""What autocast does to an operator, and leaving it where half precision would round what must not be."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def autocast_dtype(device_type: str) -> torch.dtype | None:
    """The dtype autocast uses on the device, or None outside autocast."""
    if device_type == 'meta':  # torch.is_autocast_enabled raises there
        return None
    if hasattr(torch, 'get_autocast_dtype'):
        return torch.get_autocast_dtype(device_type) if torch.is_autocast_enabled(device_type) else None
    # torch before 2.4 has one pair of functions for each device type.
    if device_type == 'cpu':
        return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else None
    return torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else None


def outside_autocast(x: Tensor) -> AbstractContextManager:
    """A context in which operations on the device of ``x`` keep the dtype they are given."""
    # There is no autocast for meta tensors, and asking for it raises.
    return nullcontext() if x.device.type == 'meta' else torch.autocast(x.device.type, enabled=False)
