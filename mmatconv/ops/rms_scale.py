"""The factor of RMSNorm."""

import torch
from torch import Tensor


def rms_scale(x: Tensor, eps: float) -> Tensor:
    """``1 / sqrt(mean(x**2) + eps)`` of each row: (..., C) -> (..., 1), in float32 for half precision."""
    wide = torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide)
    return (norm.square() / x.shape[-1] + eps).rsqrt()
