"""In which precision values are summed."""

import torch
from torch import Tensor


def sum_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which values of ``x`` are summed: float32 for half precision, else its own."""
    return torch.promote_types(x.dtype, torch.float32)
