"""CSWin's cross-shaped window attention (arXiv 2107.00652), a row of the paper's figure 4."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmatconv.errors import UserError
from mmatconv.layers.checks import check_num_heads
from mmatconv.layers.token_mixers.per_image import PerImageMixer
from mmatconv.layers.token_mixers.windows import merge_windows, pad_to_windows, split_windows
from mmatconv.ops.products import linear


class CrossShapedAttention(PerImageMixer):
    """Half of the heads attend within horizontal stripes of the map, the other half within vertical ones.

    The locally-enhanced position encoding (``lepe``, a 3x3 depthwise convolution of the values) sees, as in the
    authors' code, each stripe alone. Maps that the stripes do not divide are padded with zeros at the right and at the
    bottom. In a map no larger than a stripe all heads attend to the whole map, as in the authors' last stage.

    Args:
        dim: Channels C.
        num_heads: Must divide ``dim`` and be even. Default: 8.
        stripe: Height of a horizontal, width of a vertical stripe in pixels; 1, 2, 7, 7 in the four stages of CSwin.
            Default: 7.

    Raises:
        UserError: A ``num_heads`` that is odd or does not divide ``dim``.
    """

    def __init__(self, dim: int, num_heads: int = 8, stripe: int = 7) -> None:
        super().__init__()
        check_num_heads(dim, num_heads)
        if num_heads % 2:
            raise UserError(f'num_heads must be even for two kinds of stripes, but is {num_heads}.')
        self.num_heads = num_heads
        self.stripe = stripe
        self.qkv = nn.Linear(dim, 3 * dim)
        self.lepe = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.proj = nn.Linear(dim, dim)

    def mix(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        x = x.permute(0, 2, 3, 1)
        qkv = linear(x, self.qkv.weight, self.qkv.bias).unflatten(3, (3, 2, self.num_heads // 2, -1))
        weights, biases = self.lepe.weight.chunk(2), self.lepe.bias.chunk(2)
        whole = max(height, width) <= self.stripe
        stripes = [(height if whole else self.stripe, width), (height, width if whole else self.stripe)]
        halves = [
            self.attend(qkv[:, :, :, :, half].flatten(3), *stripes[half], weights[half], biases[half])
            for half in (0, 1)
        ]
        attended = torch.cat(halves, dim=3)
        return linear(attended, self.proj.weight, self.proj.bias).permute(0, 3, 1, 2)

    def attend(self, qkv: Tensor, height: int, width: int, weight: Tensor, bias: Tensor) -> Tensor:
        """(B, H, W, 3 * C / 2) -> (B, H, W, C / 2) within stripes of ``height`` x ``width``."""
        size = qkv.shape[1:3]
        qkv = pad_to_windows(qkv, height, width)
        padded = qkv.shape[1:3]
        parts = qkv.unflatten(3, (3, self.num_heads // 2, -1)).unbind(3)
        q, k, v = (split_windows(part, height, width) for part in parts)
        attended = F.scaled_dot_product_attention(q, k, v)
        maps = v.transpose(2, 3).flatten(1, 2).unflatten(2, (height, width))
        local = F.conv2d(maps, weight, bias, padding=1, groups=len(weight))
        attended = attended + local.flatten(2).unflatten(1, (self.num_heads // 2, -1)).transpose(2, 3)
        return merge_windows(attended, padded, height, width)[:, : size[0], : size[1]]

    def extra_repr(self) -> str:
        return f'num_heads={self.num_heads}, stripe={self.stripe}'
