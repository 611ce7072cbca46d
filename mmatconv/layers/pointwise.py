"""1x1 convolution: a matrix product at every pixel."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from mmatconv.layers.plain import is_plain
from mmatconv.ops.cast_weights import Parts, cast_together, cast_weights
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


def as_products(
    x: Tensor, *layers: nn.Module, biased: Sequence[bool] | None = None
) -> Sequence[Callable[[Tensor], Tensor]]:
    """Layers to be called on maps like ``x``; under autocast on a GPU 1x1 convolutions with weights cast together.

    Args:
        x: (B, C, H, W).
        layers: Any; PointwiseConv where ``biased`` says False, and ``x`` is channels_last then.
        biased: Whether each adds its bias. Default: all do.
    """
    biased = [True] * len(layers) if biased is None else biased
    dtype = cast_together(x)
    matrices = all(is_plain(layer, PointwiseConv) for layer in layers)
    pairs = [(layer.matrix, layer.bias if own else None) for layer, own in zip(layers, biased)] if matrices else []
    weights = [weight for pair in pairs for weight in pair if weight is not None]
    alike = x.is_contiguous(memory_format=torch.channels_last) and len({weight.dtype for weight in weights}) == 1
    if dtype is None or not alike:
        return [
            layer if own else partial(_product, matrix=layer.matrix, bias=None) for layer, own in zip(layers, biased)
        ]
    cast = iter(cast_weights(weights, dtype, [Parts()] * len(weights)))
    return [partial(_product, matrix=next(cast), bias=None if bias is None else next(cast)) for _, bias in pairs]


def _product(x: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    return linear(x.permute(0, 2, 3, 1), matrix, bias).permute(0, 3, 1, 2)
