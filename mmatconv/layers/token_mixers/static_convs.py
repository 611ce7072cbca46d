"""Convolutions with learned, fixed kernels: what table IX(b) of the paper puts in the place of ATConv."""

from torch import Tensor, nn

from mmatconv.layers.checks import check_kernel_size
from mmatconv.layers.padding_mask import PaddingMask
from mmatconv.layers.pointwise import PointwiseConv


class _MaskedConv(nn.Conv2d):
    def forward(self, x: Tensor, padding_mask: PaddingMask | None = None) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W), computed as if each image had no padding around it."""
        return super().forward(x if padding_mask is None else padding_mask.zero_padding(x, inplace=True))


class Conv(_MaskedConv):
    """A dense convolution with a bias and no projections: (B, C, H, W) -> (B, C, H, W).

    Counted: the bias is needed for table IX(b)'s 40.04 million parameters of AttNet-T2.

    Args:
        dim: Channels C.
        kernel_size: Odd. Default: 3.

    Raises:
        UserError: An even ``kernel_size``.
    """

    def __init__(self, dim: int, kernel_size: int = 3) -> None:
        check_kernel_size(kernel_size)
        super().__init__(dim, dim, kernel_size, padding=kernel_size // 2)


class DepthwiseConv(_MaskedConv):
    """A depthwise convolution with a bias and no projections: (B, C, H, W) -> (B, C, H, W).

    Sizes 3, 5 and 7 are rows of table IX(b); 3 is also the first row of IX(c), from which
    :class:`~mmatconv.layers.token_mixers.atconv_step.ATConvStep` continues. Counted: the bias is needed for the 20.63
    million parameters of AttNet-T2 at size 5.

    Args:
        dim: Channels C.
        kernel_size: Odd. Default: 3.

    Raises:
        UserError: An even ``kernel_size``.
    """

    def __init__(self, dim: int, kernel_size: int = 3) -> None:
        check_kernel_size(kernel_size)
        super().__init__(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)


class ProjectedDepthwiseConv(nn.Module):
    """A depthwise convolution between ATConv's two projections: (B, C, H, W) -> (B, C, H, W).

    ATConv with learned, fixed kernels in the place of the generated ones. No row of the paper; the study in
    docs/study.md asks with it what the projections contribute.

    Args:
        dim: Channels C.
        kernel_size: Odd. Default: 3.

    Raises:
        UserError: An even ``kernel_size``.
    """

    def __init__(self, dim: int, kernel_size: int = 3) -> None:
        super().__init__()
        self.x_proj = PointwiseConv(dim, dim)
        self.conv = DepthwiseConv(dim, kernel_size)
        self.proj = PointwiseConv(dim, dim)

    def forward(self, x: Tensor, padding_mask: PaddingMask | None = None) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W), computed as if each image had no padding around it."""
        return self.proj(self.conv(self.x_proj(x), padding_mask))
