"""Rank-augmented linear attention, RALA (arXiv 2411.07635), a token mixer of table IX(b)."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmatconv.layers.checks import check_num_heads
from mmatconv.layers.pointwise import PointwiseConv
from mmatconv.layers.token_mixers.heads import merge_heads, split_heads


class RankAugAttention(nn.Module):
    """Linear attention with weighted keys and a gated output, both to raise the rank of what it computes.

    With ``f(t) = elu(t) + 1`` as kernel function and d channels a head, token j enters the context with the weight
    ``a_j = softmax over j of d ** -0.5 * mean(f(q)) . f(k_j)``; token i receives
    ``sum_j a_j f(q_i) . f(k_j) v_j / (sum_j a_j f(q_i) . f(k_j))``. To that a 5x5 depthwise convolution of the values
    (``lepe``) is added, and ``proj`` follows the product with the gate ``o``.

    Read from the public code (github.com/qhfan/RALA). Inferred from the count: biases everywhere give table IX(b)'s
    31.54 million parameters of AttNet-T2. Undetermined: the heads, since its 6.11 GFLOPs come out with no usual choice
    (6.02 at 32 channels a head, 6.11 at 2, 2, 4, 8 heads in the four stages); and the rotary position embedding of q
    and k in the public model, which no count shows and which is left out here.

    Args:
        dim: Channels C.
        num_heads: Must divide ``dim``. Default: 8.

    Raises:
        UserError: A ``num_heads`` that does not divide ``dim``.
    """

    def __init__(self, dim: int, num_heads: int = 8) -> None:
        super().__init__()
        check_num_heads(dim, num_heads)
        self.num_heads = num_heads
        self.qkvo = PointwiseConv(dim, 4 * dim)
        self.lepe = nn.Conv2d(dim, dim, 5, padding=2, groups=dim)
        self.proj = PointwiseConv(dim, dim)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Three times (B, heads, N, d) -> (B, heads, N, d)."""
        tokens, channels = q.shape[2:]
        q, k = F.elu(q) + 1, F.elu(k) + 1
        similarity = k @ q.mean(dim=2, keepdim=True).transpose(2, 3) * channels**-0.5
        # The weights are near 1 / tokens; half of that on each side keeps both within float16.
        root = tokens**0.5
        k = k * (similarity.softmax(dim=2) * root)
        context = k.transpose(2, 3) @ (v / root)
        total = q @ (k.sum(dim=2, keepdim=True) / root).transpose(2, 3)
        return q @ context / (total + 1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        q, k, v, gate = self.qkvo(x).chunk(4, dim=1)
        attended = self.attend(*(split_heads(part, self.num_heads) for part in (q, k, v)))
        return self.proj((merge_heads(attended, *x.shape[2:]) + self.lepe(v)) * gate)

    def extra_repr(self) -> str:
        return f'num_heads={self.num_heads}'
