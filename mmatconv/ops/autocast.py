"""Leaving autocast where a statistic of a whole map must not be rounded to half precision."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def outside_autocast(x: Tensor) -> AbstractContextManager:
    """A context in which operations on the device of ``x`` keep the dtype they are given."""
    # There is no autocast for meta tensors, and asking for it raises.
    return nullcontext() if x.device.type == 'meta' else torch.autocast(x.device.type, enabled=False)
