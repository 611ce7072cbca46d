"""PVTv2's attention to a pooled map, linear SRA (arXiv 2106.13797), a row of the paper's figure 4."""

import torch.nn.functional as F
from torch import Tensor

from mmatconv.layers.checks import check_num_heads
from mmatconv.layers.norms import LayerNorm2d
from mmatconv.layers.pointwise import PointwiseConv
from mmatconv.layers.token_mixers.heads import merge_heads, split_heads
from mmatconv.layers.token_mixers.per_image import PerImageMixer


class PoolingAttention(PerImageMixer):
    """Every pixel attends to the map averaged to ``pool_size`` x ``pool_size``, at a cost linear in the pixels.

    As in the authors' code a 1x1 convolution (``sr``), LayerNorm and GELU follow the pooling before keys and values.

    Args:
        dim: Channels C.
        num_heads: Must divide ``dim``. Default: 8.
        pool_size: Positions in each direction of the pooled map. Default: 7.

    Raises:
        UserError: A ``num_heads`` that does not divide ``dim``.
    """

    def __init__(self, dim: int, num_heads: int = 8, pool_size: int = 7) -> None:
        super().__init__()
        check_num_heads(dim, num_heads)
        self.num_heads = num_heads
        self.pool_size = pool_size
        self.q = PointwiseConv(dim, dim)
        self.sr = PointwiseConv(dim, dim)
        self.norm = LayerNorm2d(dim, eps=1e-5)
        self.kv = PointwiseConv(dim, 2 * dim)
        self.proj = PointwiseConv(dim, dim)

    def mix(self, x: Tensor) -> Tensor:
        pooled = F.gelu(self.norm(self.sr(F.adaptive_avg_pool2d(x, self.pool_size))))
        parts = (self.q(x), *self.kv(pooled).chunk(2, dim=1))
        attended = F.scaled_dot_product_attention(*(split_heads(part, self.num_heads) for part in parts))
        return self.proj(merge_heads(attended, *x.shape[2:]))

    def extra_repr(self) -> str:
        return f'num_heads={self.num_heads}, pool_size={self.pool_size}'
