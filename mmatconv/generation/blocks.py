"""The block of SiT: attention or ATConv, and an MLP, both scaled, shifted and gated by time and class (adaLN-Zero).

Names as in embeddings.py.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmatconv.layers import ATConv


class Attention(nn.Module):
    """Multi-head self-attention over all tokens.

    Args:
        dim: Channels D, divisible by ``num_heads``.
        num_heads: Heads.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        query, key, value = self.qkv(tokens).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class PixelLinear(nn.Linear):
    """A linear layer over the channels of a map: a 1x1 convolution whose weight is (out, in), as SiT's are."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H, W)."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SiTATConv(ATConv):
    """ATConv as in the released SiT: weights of linear layers, GELU in its tanh form. Takes maps of any shape.

    Args:
        dim: Channels D.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.kernel_act = nn.GELU(approximate='tanh')
        self.kernel_proj, self.x_proj, self.proj = (PixelLinear(dim, dim) for _ in range(3))


class MLP(nn.Module):
    """Two layers with GELU in its tanh form between them.

    Args:
        dim: Channels D.
        hidden: Hidden channels.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.fc2(F.gelu(self.fc1(tokens), approximate='tanh'))


class SiTBlock(nn.Module):
    """Token mixer and MLP with residuals; each begins as nothing, since the gates begin at zero.

    Args:
        dim: Channels D.
        token_mixer: ATConv, called with a map, or another, called with tokens (B, N, D).
        mlp_ratio: Hidden channels of the MLP over D.
    """

    def __init__(self, dim: int, token_mixer: nn.Module, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = _norm(dim)
        self.attn = token_mixer
        self.norm2 = _norm(dim)
        self.mlp = MLP(dim, int(dim * mlp_ratio))
        self.adaLN_modulation = _modulation(dim, 6)

    def forward(self, tokens: Tensor, condition: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, N, D) and (B, D) -> (B, N, D), N being height times width of ``size``."""
        parts = self.adaLN_modulation(condition)[:, None].chunk(6, dim=2)
        shift, scale, gate = parts[:3]
        tokens = tokens + gate * self._mix(torch.addcmul(shift, self.norm1(tokens), 1 + scale), size)
        shift, scale, gate = parts[3:]
        return tokens + gate * self.mlp(torch.addcmul(shift, self.norm2(tokens), 1 + scale))

    def _mix(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        if not isinstance(self.attn, ATConv):
            return self.attn(tokens)
        x = tokens.unflatten(1, size).permute(0, 3, 1, 2)  # the tokens as they lie are a channels_last map
        return self.attn(x).permute(0, 2, 3, 1).flatten(1, 2)


class FinalLayer(nn.Module):
    """From tokens to the values of their patches; begins as zero.

    Args:
        dim: Channels D.
        values: Values of a patch, ``patch_size ** 2 * channels``.
    """

    def __init__(self, dim: int, values: int) -> None:
        super().__init__()
        self.norm_final = _norm(dim)
        self.linear = nn.Linear(dim, values)
        self.adaLN_modulation = _modulation(dim, 2)

    def forward(self, tokens: Tensor, condition: Tensor) -> Tensor:
        """(B, N, D) and (B, D) -> (B, N, values)."""
        shift, scale = self.adaLN_modulation(condition)[:, None].chunk(2, dim=2)
        return self.linear(torch.addcmul(shift, self.norm_final(tokens), 1 + scale))


def _norm(dim: int) -> nn.LayerNorm:
    return nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)


def _modulation(dim: int, parts: int) -> nn.Sequential:
    return nn.Sequential(nn.SiLU(), nn.Linear(dim, parts * dim))
