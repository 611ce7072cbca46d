"""The channel mixers: the half of a block that works on each pixel's channels."""

import torch
from torch import Tensor, nn

from mmatconv.layers.norms import RMSNorm2d
from mmatconv.layers.padding_mask import ValidArea
from mmatconv.layers.pointwise import PointwiseConv
from mmatconv.ops.cpu.linear import linear, uses_onednn
from mmatconv.ops.cpu.rms_linear import rms_linear
from mmatconv.ops.cpu.tiles import conv_glu_bands, mlp_bands
from mmatconv.ops.glu.custom_operator import gelu_mul_scale
from mmatconv.ops.glu.gelu_mul import gelu_mul
from mmatconv.ops.paths import takes_triton
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

    def forward(self, x: Tensor, area: ValidArea | None = None) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W), in ``area`` as for a map without the padding around it."""
        if not x.is_contiguous(memory_format=torch.channels_last):
            gate, value = self.fc1(x).chunk(2, dim=1)
            gate = gate if area is None else area.zero(gate)
            return self.fc2(self.norm_layer(gelu_mul(self.dwconv(gate), value)))
        pixels = x.permute(0, 2, 3, 1)
        if uses_onednn(x) and not torch.is_grad_enabled():
            norm = (self.norm_layer.weight, self.norm_layer.eps) if isinstance(self.norm_layer, RMSNorm2d) else None
            pixels = conv_glu_bands(
                pixels,
                (self.fc1.matrix, self.fc1.bias),
                (self.dwconv.weight, self.dwconv.bias),
                (self.fc2.matrix, self.fc2.bias),
                norm,
                area and area.listed,
            )
        else:
            pixels = self._mix(pixels, area)
        return pixels.permute(0, 3, 1, 2)

    def _mix(self, pixels: Tensor, area: ValidArea | None) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        # Two products instead of one and a split: halves of a channels_last map would be copied.
        (gate_weight, value_weight), (gate_bias, value_bias) = self.fc1.matrix.chunk(2), self.fc1.bias.chunk(2)
        gate = linear(pixels, gate_weight, gate_bias).permute(0, 3, 1, 2)
        if area is not None:
            gate = area.zero(gate, inplace=True)
        gate = self.dwconv(gate).permute(0, 2, 3, 1)
        value = linear(pixels, value_weight, value_bias)
        if isinstance(self.norm_layer, RMSNorm2d) and takes_triton(gate) and not is_traced():
            product, scale = gelu_mul_scale(gate, value, self.norm_layer.eps)
            product = rms_linear(product, self.norm_layer.weight, self.fc2.matrix, self.norm_layer.eps, scale)
            return product + self.fc2.bias.to(product.dtype)
        product = gelu_mul(gate, value)
        if not isinstance(self.norm_layer, RMSNorm2d):
            return linear(product, self.fc2.matrix, self.fc2.bias)
        product = rms_linear(product, self.norm_layer.weight, self.fc2.matrix, self.norm_layer.eps)
        return product + self.fc2.bias.to(product.dtype)


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

    def forward(self, x: Tensor, area: ValidArea | None = None) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W); each pixel by itself, so that padding does not matter."""
        innermost = x.is_contiguous(memory_format=torch.channels_last)
        if innermost and uses_onednn(x) and not torch.is_grad_enabled():
            expand, project = (self.fc1.matrix, self.fc1.bias), (self.fc2.matrix, self.fc2.bias)
            return mlp_bands(x.permute(0, 2, 3, 1), expand, project).permute(0, 3, 1, 2)
        return self.fc2(self.act(self.fc1(x)))
