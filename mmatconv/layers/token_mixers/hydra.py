"""Hydra attention (arXiv 2209.07484), a token mixer of table IX(b)."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmatconv.layers.pointwise import PointwiseConv


class HydraAttention(nn.Module):
    """Linear attention with as many heads as channels: ``q * sum over tokens of k * v``, q and k of unit length.

    Without a softmax, heads of one channel leave a single value of context for each channel (equation 7 of the
    Hydra paper, cosine kernel).

    Inferred from the count: biases in ``qkv`` and ``proj`` give table IX(b)'s 29.18 million parameters of AttNet-T2
    and 5.47 GFLOPs; the paper states neither.

    Args:
        dim: Channels C.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.qkv = PointwiseConv(dim, 3 * dim)
        self.proj = PointwiseConv(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        q, k, v = self.qkv(x).chunk(3, dim=1)
        # The default eps of normalize is zero in float16.
        q, k = F.normalize(q, dim=1, eps=1e-6), F.normalize(k, dim=1, eps=1e-6)
        return self.proj(q * (k * v).sum(dim=(2, 3), keepdim=True))
