"""The channel mixers: the half of a block that works on each pixel's channels."""

from torch import Tensor, nn

from .norms import RMSNorm2d
from .pointwise import PointwiseConv


class ConvGLU(nn.Module):
    """AttNet's channel mixer: a gated linear unit whose gate sees its 3x3 neighbourhood (read from the released code).

    Args:
        dim: Channels C.
        hidden: Hidden channels; ``fc1`` makes twice as many, gate and value.
        norm: RMSNorm between the product and ``fc2``. Default: True.
    """

    def __init__(self, dim: int, hidden: int, norm: bool = True) -> None:
        super().__init__()
        self.fc1 = PointwiseConv(dim, 2 * hidden)
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.act = nn.GELU()
        self.norm_layer = RMSNorm2d(hidden) if norm else nn.Identity()
        self.fc2 = PointwiseConv(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        gate, value = self.fc1(x).chunk(2, dim=1)
        return self.fc2(self.norm_layer(self.act(self.dwconv(gate)) * value))


class MLP(nn.Module):
    """Two 1x1 convolutions with a GELU between them: the channel mixer of PVT and Swin.

    Args:
        dim: Channels C.
        hidden: Hidden channels.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = PointwiseConv(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = PointwiseConv(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return self.fc2(self.act(self.fc1(x)))
