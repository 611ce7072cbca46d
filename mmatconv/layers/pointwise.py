"""1x1 convolution: a matrix product at every pixel."""

from collections.abc import Sequence
from itertools import islice

import torch
from torch import Tensor, nn

from mmatconv.ops.cast_weights import cast_together, cast_weights
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


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The product of a 1x1 convolution: (B, C, H, W) in channels_last, (D, C), (D,) or None -> (B, D, H, W)."""
    return linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)


def cast_for(x: Tensor, mixers: Sequence[nn.Module]) -> list[tuple[Tensor, ...] | None]:
    """The weights that mixers multiply maps like ``x`` by, where autocast on a GPU would cast them one by one.

    Args:
        x: (B, C, H, W).
        mixers: With a method ``weights``.

    Returns:
        Of each what ``cast_weights`` makes of its ``weights()``; None where it has none or casts nothing.
    """
    dtype = cast_together(x)
    weights = [] if dtype is None else [mixer.weights() for mixer in mixers]
    weights = [own if all(w.values.dtype == torch.float32 for w in own) else [] for own in weights]
    if not any(weights):
        return [None] * len(mixers)
    cast = iter(cast_weights([weight for own in weights for weight in own], dtype))
    return [tuple(islice(cast, len(own))) or None for own in weights]
