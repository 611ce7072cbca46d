"""1x1 convolution: a matrix product at every pixel."""

import torch
from torch import Tensor, nn

from mmatconv.ops.products import linear


class PointwiseConv(nn.Conv2d):
    """A 1x1 convolution, computed as one matrix product for channels_last maps.

    Parameters, names and values are those of ``nn.Conv2d(in_channels, out_channels, 1)``. torch's convolution is slower
    for such a map: on one CPU thread it even copies it to the contiguous format and back.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        bias: Default: True.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 1, bias=bias)

    @property
    def matrix(self) -> Tensor:
        """The weights as (out_channels, in_channels)."""
        return self.weight.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H, W) in the memory format of ``x``."""
        if not x.is_contiguous(memory_format=torch.channels_last):
            return super().forward(x)
        return linear(x.permute(0, 2, 3, 1), self.matrix, self.bias).permute(0, 3, 1, 2)
