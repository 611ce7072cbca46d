"""Which memory format a map has, and what the operator's results have."""

from collections.abc import Sequence

import torch
from torch import Tensor


def is_channels_last(x: Tensor) -> bool:
    """Whether (B, C, H, W) ``x`` lies channel-innermost in memory and not also in the default order."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def nearest_format(x: Tensor) -> torch.memory_format:
    """The dense memory format nearest to (B, C, H, W) ``x``, which may be any view.

    It is channels_last if neighbouring channels are adjacent in memory, as in a slice of channels too. Only strides are
    read, so that a traced graph does not depend on sizes.
    """
    if x.stride(1) == 1 and x.stride(3) != 1:
        return torch.channels_last
    return torch.contiguous_format


def empty(shape: Sequence[int], like: Tensor, memory_format: torch.memory_format) -> Tensor:
    """An empty tensor with the dtype and device of ``like``; results and their fakes all come from here."""
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=memory_format)
