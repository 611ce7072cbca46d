"""The classification form of PVT: mmdet's backbone and what mmdet left out of it."""

import torch
from mmdet.models import PyramidVisionTransformer
from torch import Tensor, nn


class OfficialPVT(PyramidVisionTransformer):
    """PVT with its class token, the token's position and the final norm, as its public code classifies.

    Args:
        options: Those of mmdet's class but ``out_indices``.
    """

    def __init__(self, **options: object) -> None:
        super().__init__(out_indices=(3,), **options)
        dim = self.embed_dims * self.num_heads[-1]
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.class_position = nn.Parameter(torch.zeros(1, 1, dim))
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """(B, 3, H, W) -> the class token, (B, C)."""
        *stages, last = self.layers
        for embed, blocks, _ in stages:
            tokens, size = embed(x)
            for block in blocks:
                tokens = block(tokens, size)
            x = tokens.transpose(1, 2).unflatten(2, size)
        embed, (position, *blocks), _ = last
        tokens = position(*embed(x))
        token = (self.class_token + self.class_position).expand(len(tokens), -1, -1)
        tokens = torch.cat([token, tokens], dim=1)
        for block in blocks:
            # Nothing in the last stage reduces the map, so any shape of so many tokens will do.
            tokens = block(tokens, (tokens.shape[1], 1))
        return (self.norm(tokens)[:, 0],)
