"""Residual sum and LayerNorm for GPUs: from a stream and a branch to the new stream and what the next mixer reads."""

import torch
from torch import Tensor

from mmatconv.ops.residual_norm.autograd import ResidualNorm
from mmatconv.ops.residual_norm.branch import Branch


def residual_norm(
    x: Tensor,
    branch: Branch | None,
    gamma: Tensor | None,
    factor: Tensor | None,
    norm: tuple[Tensor | None, Tensor | None, float] | None,
    dtype: torch.dtype | None,
    path: str,
) -> tuple[Tensor, Tensor | None]:
    """``stream = x + branch * gamma * factor`` and ``layer_norm(stream)`` over the channels, in one reading of each.

    Computed in float32 (float64 for float64) whatever the dtypes, under autocast too. Differentiable to any order.

    Args:
        x: (B, C, H, W), channels_last or copied to it.
        branch: What is added, or None: ``stream`` is ``x``. Its scale and bias may be of a wider dtype than its map.
        gamma: (C,), the LayerScale, or None.
        factor: (B, 1, 1, 1), that of stochastic depth, in any floating dtype, or None.
        norm: Weight (C,) or None, bias (C,) or None, and eps; None for the sum alone.
        dtype: Of the normalised map. None: that of the stream.
        path: What ``paths.choose`` returned, one that takes Triton.

    Returns:
        The stream, in the dtype that torch gives the sum, and the normalised map or None; (B, C, H, W), channels_last.

    Raises:
        UserError: Path 'triton' where it cannot run.
    """
    branch = Branch(None) if branch is None else branch
    stream_dtype = x.dtype
    for other in (branch.product, gamma):
        if other is not None:
            stream_dtype = torch.promote_types(stream_dtype, other.dtype)
    weight, bias, eps = (None, None, None) if norm is None else norm
    arguments = x, *branch, gamma, factor, weight, bias, eps, dtype or stream_dtype, stream_dtype, path
    return ResidualNorm.apply(*arguments)
