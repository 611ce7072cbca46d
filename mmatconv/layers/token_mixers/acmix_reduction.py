"""ACmix with PVT's spatial-reduction attention, reconstructed: the authors report it but released no code of it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmatconv.errors import UserError
from mmatconv.layers.norms import LayerNorm2d
from mmatconv.layers.pointwise import PointwiseConv
from mmatconv.layers.token_mixers.acmix import ACmix
from mmatconv.layers.token_mixers.heads import merge_heads, split_heads


class ACmixReduction(ACmix):
    """Attention to a map reduced by a strided convolution, and a convolution that share their projections.

    Reconstructed from the counts in the README of the authors' code (13 and 25 million parameters, 2.0 and 3.9 GFLOPs
    for PVT-Tiny and PVT-Small): the reducing convolution stays, and keys and values are projected from the reduced map
    alone; projected from the whole map PVT-Tiny would have 2.2 GFLOPs. The convolution branch takes the queries, and
    the keys and values enlarged to the map, each pixel repeated. The rest is as in the released forms, biases as in
    the one for Swin.

    Args:
        dim: Channels C.
        num_heads: Must divide ``dim``. Default: 1.
        sr_ratio: Reduction of keys and values in each direction. Maps that it does not divide are padded with zeros at
            the right and at the bottom. Default: 1.

    Raises:
        UserError: A ``num_heads`` that does not divide ``dim``, or an ``sr_ratio`` below 1.
    """

    def __init__(self, dim: int, num_heads: int = 1, sr_ratio: int = 1) -> None:
        super().__init__(dim, num_heads, fc_bias=True)
        if not isinstance(sr_ratio, int) or sr_ratio < 1:
            raise UserError(f'sr_ratio must be a positive integer, but is {sr_ratio}.')
        self.sr_ratio = sr_ratio
        self.q = PointwiseConv(dim, dim)
        self.kv = PointwiseConv(dim, 2 * dim)
        self.proj = PointwiseConv(dim, dim)
        if sr_ratio > 1:
            self.sr = nn.Conv2d(dim, dim, sr_ratio, sr_ratio)
            self.norm = LayerNorm2d(dim)

    def mix(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        q, reduced = self.q(x), x
        if self.sr_ratio > 1:
            padding = (0, -width % self.sr_ratio, 0, -height % self.sr_ratio)
            reduced = self.norm(self.sr(F.pad(x, padding)))
        kv = self.kv(reduced)
        heads = (split_heads(part, self.num_heads) for part in (q, *kv.chunk(2, dim=1)))
        attended = self.proj(merge_heads(F.scaled_dot_product_attention(*heads), height, width))
        if self.sr_ratio > 1:
            kv = kv.repeat_interleave(self.sr_ratio, 2)[:, :, :height]
            kv = kv.repeat_interleave(self.sr_ratio, 3)[:, :, :, :width]
        grouped = torch.cat([q, kv], dim=1).unflatten(1, (3 * self.num_heads, -1)).permute(0, 3, 4, 2, 1).flatten(3)
        return self.blend(attended, self.convolve(grouped))

    def extra_repr(self) -> str:
        return f'{super().extra_repr()}, sr_ratio={self.sr_ratio}'
