"""The channel mixers: the half of a block that works on each pixel's channels."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmatconv.layers.norms import RMSNorm2d
from mmatconv.layers.padding_mask import PaddingMask
from mmatconv.layers.plain import is_plain
from mmatconv.layers.pointwise import PointwiseConv, cast_for
from mmatconv.ops.cast_weights import Weight, padding
from mmatconv.ops.glu.conv_gelu_mul import conv_gelu_mul
from mmatconv.ops.glu.gelu_mul import gelu_mul
from mmatconv.ops.paths import choose, takes_triton
from mmatconv.ops.products import computes_in_tiles, conv_glu_in_tiles, linear, mlp_in_tiles, rms_linear
from mmatconv.ops.residual_norm.branch import Branch
from mmatconv.ops.tracing import is_traced


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
        self.norm_layer = RMSNorm2d(hidden) if norm else nn.Identity()
        self.fc2 = PointwiseConv(hidden, dim)

    def forward(self, x: Tensor, padding_mask: PaddingMask | None = None) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W), computed as if each image had no padding around it."""
        path = choose(x)
        if not self._reads_parameters(x):
            gate, value = self.fc1(x).chunk(2, dim=1)
            gate = gate if padding_mask is None else padding_mask.zero_padding(gate)
            return self.fc2(self.norm_layer(gelu_mul(self.dwconv(gate), value, path)))
        if self._is_fused(path):
            return self._in_one_kernel(x, padding_mask, path, None, complete=True).total()
        pixels = x.permute(0, 2, 3, 1)
        if computes_in_tiles(x) and is_plain(self.dwconv, nn.Conv2d):
            pixels = conv_glu_in_tiles(
                pixels,
                (self.fc1.matrix, self.fc1.bias),
                (self.dwconv.weight, self.dwconv.bias),
                (self.fc2.matrix, self.fc2.bias),
                (self.norm_layer.weight, self.norm_layer.eps) if self._is_normalised() else None,
                padding_mask and padding_mask.side_lengths,
            )
        else:
            pixels = self._mix(pixels, padding_mask, path)
        return pixels.permute(0, 3, 1, 2)

    def branch(
        self, x: Tensor, padding_mask: PaddingMask | None = None, cast: Sequence[Tensor] | None = None
    ) -> Branch:
        """As :meth:`forward`; the factor of the norm and the bias of ``fc2`` are left to the residual sum that can.

        ``cast`` is what ``cast_for`` returns, if that is known.
        """
        path = choose(x)
        if self._reads_parameters(x) and self._is_fused(path):
            return self._in_one_kernel(x, padding_mask, path, cast, complete=False)
        return Branch(self(x, padding_mask))

    def weights(self) -> list[Weight]:
        """What :meth:`branch` takes ``cast``: weight and bias of ``fc1``, weight of ``fc2`` with the gain of the norm.

        Hidden channels are padded with zeros to a number that products like.
        """
        if not self._has_plain_layers():
            return []
        zeros = padding(self.fc2.in_channels)
        gain = self.norm_layer.weight if self._is_normalised() else None
        expand = (Weight(values, parts=2, rows=zeros) for values in (self.fc1.weight, self.fc1.bias))
        return [*expand, Weight(self.fc2.weight, gain, columns=zeros)]

    def _reads_parameters(self, x: Tensor) -> bool:
        """Whether products of pixels stand for the 1x1 convolutions."""
        return x.is_contiguous(memory_format=torch.channels_last) and self._has_plain_layers()

    def _has_plain_layers(self) -> bool:
        return (
            is_plain(self.fc1, PointwiseConv)
            and is_plain(self.fc2, PointwiseConv)
            and (self._is_normalised() or is_plain(self.norm_layer, nn.Identity))
        )

    def _is_normalised(self) -> bool:
        return is_plain(self.norm_layer, RMSNorm2d)

    def _is_fused(self, path: str) -> bool:
        """Whether one kernel computes all between ``fc1`` and ``fc2``."""
        return takes_triton(path) and not is_traced() and is_plain(self.dwconv, nn.Conv2d)

    def _mix(self, pixels: Tensor, padding_mask: PaddingMask | None, path: str) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        # Two products instead of one and a split: halves of a channels_last map would be copied.
        (gate_weight, value_weight), (gate_bias, value_bias) = self.fc1.matrix.chunk(2), self.fc1.bias.chunk(2)
        gate = linear(pixels, gate_weight, gate_bias).permute(0, 3, 1, 2)
        if padding_mask is not None:
            gate = padding_mask.zero_padding(gate, inplace=True)
        value = linear(pixels, value_weight, value_bias)
        product = gelu_mul(self.dwconv(gate).permute(0, 2, 3, 1), value, path)
        if not self._is_normalised():
            return linear(product, self.fc2.matrix, self.fc2.bias)
        product = rms_linear(product, self.norm_layer.weight, self.fc2.matrix, self.norm_layer.eps)
        return product + self.fc2.bias.to(product.dtype)

    def _in_one_kernel(
        self, x: Tensor, padding_mask: PaddingMask | None, path: str, cast: Sequence[Tensor] | None, complete: bool
    ) -> Branch:
        pixels, eps = x.permute(0, 2, 3, 1), self.norm_layer.eps if self._is_normalised() else None
        if cast is None:
            (cast,) = cast_for(x, [self])
        expand, expand_bias, project = self._uncast_weights() if cast is None else cast
        sizes = None if padding_mask is None else padding_mask.sizes
        # Detached: the gate finds the gradient of its bias.
        both = linear(pixels, expand, expand_bias.detach())
        depthwise = self.dwconv.weight, self.dwconv.bias
        product, scale = conv_gelu_mul(both, self.fc1.bias, *depthwise, eps, path, sizes)
        if scale is not None and product.dtype == torch.float16:
            # Products of values that are not normalised yet may overflow.
            product, scale = product * scale.to(product.dtype), None
        if complete and scale is None:
            return Branch(linear(product, project, self.fc2.bias).permute(0, 3, 1, 2))
        output = linear(product, project).permute(0, 3, 1, 2)
        return Branch(output, None if scale is None else scale.permute(0, 3, 1, 2), self.fc2.bias)

    def _uncast_weights(self) -> tuple[Tensor, Tensor, Tensor]:
        project = self.fc2.matrix
        if self._is_normalised() and self.norm_layer.weight is not None:
            project = project * self.norm_layer.weight
        return self.fc1.matrix, self.fc1.bias, project


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

    def forward(self, x: Tensor, padding_mask: PaddingMask | None = None) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W); each pixel by itself, so that padding does not matter."""
        fused = (
            x.is_contiguous(memory_format=torch.channels_last)
            and computes_in_tiles(x)
            and is_plain(self.fc1, PointwiseConv)
            and is_plain(self.act, nn.GELU)
            and is_plain(self.fc2, PointwiseConv)
        )
        if fused:
            expand, project = (self.fc1.matrix, self.fc1.bias), (self.fc2.matrix, self.fc2.bias)
            return mlp_in_tiles(x.permute(0, 2, 3, 1), expand, project).permute(0, 3, 1, 2)
        return self.fc2(self.act(self.fc1(x)))
