"""Normalisation over the channels of a map."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over C of (B, C, H, W), at every pixel.

    A subclass of ``nn.LayerNorm`` so that optimizer constructors recognise it as a norm.

    Args:
        dim: Channels C.
        eps: Added to the variance. Default: 1e-6, as in the released code.
    """

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__(dim, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W), in channels_last memory format."""
        x = x.permute(0, 2, 3, 1)
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


class RMSNorm2d(nn.Module):
    """Root-mean-square normalisation over C of (B, C, H, W): ``x / sqrt(mean(x**2) + eps) * weight``.

    The released code takes this layer from timm, whose releases before 1.0.13 subtracted the mean inside; this is
    the definition of 1.0.13 and later. Statistics are kept in float32 for half-precision input, whose squares
    would overflow. ``weight`` may be None: no gain.

    Args:
        dim: Channels C.
        eps: Added to the mean square. Default: 1e-6.
    """

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        scale = wide.square().mean(dim=1, keepdim=True).add(self.eps).rsqrt()
        normalised = wide * scale
        if self.weight is not None:
            normalised = normalised * self.weight[:, None, None]
        return normalised.to(x.dtype)

    def extra_repr(self) -> str:
        gain = 'no gain' if self.weight is None else self.weight.numel()
        return f'{gain}, eps={self.eps}'
