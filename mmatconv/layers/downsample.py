"""The layers in front of the stages: every one halves or quarters the resolution and sets the channels."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmatconv.layers.norms import LayerNorm2d
from mmatconv.layers.padding_mask import PaddingMask
from mmatconv.layers.pointwise import PointwiseConv


def pad_to_multiple(x: Tensor, size: int) -> Tensor:
    """Zeros at the right and at the bottom of (B, C, H, W) until ``size`` divides H and W."""
    height, width = x.shape[2:]
    return F.pad(x, (0, -width % size, 0, -height % size))


class ConvBN(nn.Sequential):
    """A 3x3 convolution of stride 2 and BatchNorm: (B, C, H, W) -> (B, D, ceil(H / 2), ceil(W / 2))."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(nn.Conv2d(in_channels, out_channels, 3, 2, 1, bias=False), nn.BatchNorm2d(out_channels))


class ConvStem(nn.Sequential):
    """Two ConvBN with a GELU between them: (B, C, H, W) -> (B, D, ceil(H / 4), ceil(W / 4)).

    Args:
        in_channels: Channels C.
        dim: Channels D; half of them in between.
    """

    def __init__(self, in_channels: int, dim: int) -> None:
        super().__init__(ConvBN(in_channels, dim // 2), nn.GELU(), ConvBN(dim // 2, dim))

    def forward(self, x: Tensor, padding_mask: PaddingMask | None = None) -> Tensor:
        """(B, C, H, W) -> (B, D, ceil(H / 4), ceil(W / 4)), computed as if the images had no padding."""
        first, act, second = self
        x = act(first(x))
        return second(x if padding_mask is None else padding_mask.downsample(2).zero_padding(x, inplace=True))


class PatchEmbed(nn.Module):
    """A convolution over disjoint patches and LayerNorm: (B, C, H, W) -> (B, D, ceil(H / size), ceil(W / size)).

    Maps that the patches do not divide are padded with zeros at the right and at the bottom.

    Args:
        in_channels: Channels C.
        dim: Channels D.
        size: Side of a patch in pixels.
        positions: Side P of a learned map (D, P, P) that is added to the output, resized bilinearly to maps of another
            size: PVT's position embeddings. Default: 0, none.
    """

    def __init__(self, in_channels: int, dim: int, size: int, positions: int = 0) -> None:
        super().__init__()
        self.size = size
        self.proj = nn.Conv2d(in_channels, dim, size, size)
        # PyTorch's default epsilon, as the patch embeddings of PVT and Swin have it.
        self.norm = LayerNorm2d(dim, eps=1e-5)
        self.position_embedding = None
        if positions:
            self.position_embedding = nn.Parameter(
                nn.init.trunc_normal_(torch.empty(dim, positions, positions), std=0.02)
            )

    def forward(self, x: Tensor, padding_mask: PaddingMask | None = None) -> Tensor:
        """(B, C, H, W) -> (B, D, ceil(H / size), ceil(W / size)); padding with zeros is what it expects."""
        x = self.norm(self.proj(pad_to_multiple(x, self.size)))
        if self.position_embedding is None:
            return x
        positions = self.position_embedding[None]
        if positions.shape[2:] != x.shape[2:]:
            positions = F.interpolate(positions, x.shape[2:], mode='bilinear')
        return x + positions.to(x.dtype)


class PatchMerging(nn.Module):
    """Swin's downsampling: LayerNorm over the 4 C channels of 2x2 pixels and a linear layer without bias.

    Args:
        in_channels: Channels C.
        dim: Channels D.
    """

    def __init__(self, in_channels: int, dim: int) -> None:
        super().__init__()
        self.norm = LayerNorm2d(4 * in_channels, eps=1e-5)
        self.reduction = PointwiseConv(4 * in_channels, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, ceil(H / 2), ceil(W / 2))."""
        return self.reduction(self.norm(F.pixel_unshuffle(pad_to_multiple(x, 2), 2)))
