"""Matrix products over the innermost dimension. The only place that calls the fast paths in ``ops/cpu``."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmatconv.ops import convolution_precision
from mmatconv.ops.cpu import linear as onednn
from mmatconv.ops.cpu import tiles
from mmatconv.ops.cpu.rms_linear import RMSLinear
from mmatconv.ops.rms_scale import rms_scale

conv_glu_in_tiles, mlp_in_tiles = tiles.conv_glu, tiles.mlp


def computes_in_tiles(x: Tensor) -> bool:
    """Whether a channel mixer without gradients is faster in tiles: see ``ops/cpu/tiles.py``."""
    return onednn.uses_onednn(x) and not torch.is_grad_enabled()


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias`` in place of a 1x1 convolution, whose precision it has: TF32 where cuDNN may take it.

    Args:
        x: (..., C).
        weight: (D, C).
        bias: (D,). Default: None.

    Returns:
        (..., D).
    """
    if onednn.uses_onednn(x):
        return onednn.linear(x, weight, bias)
    if convolution_precision.differs_from_convolutions(x):
        return convolution_precision.Linear.apply(x, weight, bias)
    return F.linear(x, weight, bias)


def rms_linear(x: Tensor, gain: Tensor | None, weight: Tensor, eps: float) -> Tensor:
    """``(x / sqrt(mean(x**2) + eps) * gain) @ weight.T`` with the division after the product.

    The gain scales the columns of the weight and the root is one number per row, so both commute with the product, and
    no normalised map of the larger width is ever written. The mean is taken in float32 for half precision.

    Args:
        x: (..., C).
        gain: (C,), or None for ones.
        weight: (D, C).
        eps: Added to the mean square.

    Returns:
        (..., D).
    """
    if x.dtype == torch.float16:
        # Products of values that are not normalised yet may overflow.
        x = x * rms_scale(x, eps).to(x.dtype)
        return linear(x if gain is None else x * gain.to(x.dtype), weight)
    weight = weight if gain is None else weight * gain
    if torch.is_grad_enabled() and onednn.uses_onednn(x):
        return RMSLinear.apply(x, weight, eps)
    product = linear(x, weight)
    return product * rms_scale(x, eps).to(product.dtype)
