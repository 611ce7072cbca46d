"""InLine attention, injective linear attention (arXiv 2412.06590), a token mixer of table IX(b)."""

from torch import Tensor, nn

from mmatconv.layers.checks import check_num_heads
from mmatconv.layers.pointwise import PointwiseConv
from mmatconv.layers.token_mixers.heads import merge_heads, split_heads
from mmatconv.ops import dynamic_depthwise_conv2d

RESIDUAL_SIZE = 3


class InLineAttention(nn.Module):
    """Linear attention that subtracts instead of dividing, so that different queries never get equal weights.

    Token i gives token j the weight ``(1 + s * q_i . k_j - s * mean over t of q_i . k_t) / N`` with N tokens of d
    channels a head and ``s = d ** -0.5``; the weights of a token sum to one. A local residual convolves the values
    with 3x3 kernels made from the mean of the map.

    Read from the public code (github.com/LeapLabTHU/InLine): the identity as kernel function, the scale, the residual
    with its two grouped projections, and the static 3x3 depthwise convolution of the values that its CSwin form
    adds (``lepe``). Inferred from the count: the default form, with 2, 4, 8, 16 heads in the four stages, gives table
    IX(b)'s 31.63 million parameters of AttNet-T2 and 5.63 GFLOPs. Undetermined: the bias of ``lepe``, which is on as in
    the public code. The public InLine-PVT has ``qkv_bias`` and no ``lepe``.

    Args:
        dim: Channels C.
        num_heads: Must divide ``dim``. Default: 8.
        qkv_bias: Biases in the projections to queries, keys and values. Default: False.
        lepe: Add a static 3x3 depthwise convolution of the values. Default: True.

    Raises:
        UserError: A ``num_heads`` that does not divide ``dim``.
    """

    def __init__(self, dim: int, num_heads: int = 8, qkv_bias: bool = False, lepe: bool = True) -> None:
        super().__init__()
        check_num_heads(dim, num_heads)
        self.num_heads = num_heads
        self.qkv = PointwiseConv(dim, 3 * dim, bias=qkv_bias)
        self.residual = nn.Sequential(
            nn.Conv2d(dim, dim, 1, groups=num_heads),
            nn.GELU(),
            nn.Conv2d(dim, dim * RESIDUAL_SIZE**2, 1, groups=num_heads),
        )
        self.lepe = nn.Conv2d(dim, dim, 3, padding=1, groups=dim) if lepe else None
        self.proj = PointwiseConv(dim, dim)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Three times (B, heads, N, d) -> (B, heads, N, d)."""
        tokens, channels = q.shape[2:]
        scale = channels**-0.5
        # Half of the factor on each side keeps the sums over tokens within float16.
        root = (scale / tokens) ** 0.5
        context = (k * root).transpose(2, 3) @ (v * root)
        mean_weight = q @ k.mean(dim=2, keepdim=True).transpose(2, 3) * scale
        return q @ context + (1 - mean_weight) * v.mean(dim=2, keepdim=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        q, k, v = self.qkv(x).chunk(3, dim=1)
        attended = self.attend(*(split_heads(part, self.num_heads) for part in (q, k, v)))
        kernels = self.residual(x.mean(dim=(2, 3), keepdim=True)).flatten(1)
        kernels = kernels.unflatten(1, (-1, RESIDUAL_SIZE, RESIDUAL_SIZE))
        local = dynamic_depthwise_conv2d(v, kernels)
        if self.lepe is not None:
            local = local + self.lepe(v)
        return self.proj(merge_heads(attended, *x.shape[2:]) + local)

    def extra_repr(self) -> str:
        return f'num_heads={self.num_heads}'
