"""The channel mixers: the half of a block that works on each pixel's channels."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmatconv.layers.norms import RMSNorm2d
from mmatconv.layers.padding_mask import PaddingMask
from mmatconv.layers.plain import is_plain
from mmatconv.layers.pointwise import PointwiseConv
from mmatconv.ops.cast_weights import Parts, cast_together, cast_weights, padding
from mmatconv.ops.glu.conv_gelu_mul import conv_gelu_mul
from mmatconv.ops.glu.gelu_mul import gelu_mul
from mmatconv.ops.paths import choose, takes_triton
from mmatconv.ops.products import computes_in_tiles, conv_glu_in_tiles, linear, mlp_in_tiles, rms_linear
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
        normalised = is_plain(self.norm_layer, RMSNorm2d)
        fused = (
            x.is_contiguous(memory_format=torch.channels_last)
            and is_plain(self.fc1, PointwiseConv)
            and is_plain(self.fc2, PointwiseConv)
            and (normalised or is_plain(self.norm_layer, nn.Identity))
        )
        if not fused:
            gate, value = self.fc1(x).chunk(2, dim=1)
            gate = gate if padding_mask is None else padding_mask.zero_padding(gate)
            return self.fc2(self.norm_layer(gelu_mul(self.dwconv(gate), value, path)))
        pixels = x.permute(0, 2, 3, 1)
        if computes_in_tiles(x) and is_plain(self.dwconv, nn.Conv2d):
            pixels = conv_glu_in_tiles(
                pixels,
                (self.fc1.matrix, self.fc1.bias),
                (self.dwconv.weight, self.dwconv.bias),
                (self.fc2.matrix, self.fc2.bias),
                (self.norm_layer.weight, self.norm_layer.eps) if normalised else None,
                padding_mask and padding_mask.side_lengths,
            )
        else:
            pixels = self._mix(pixels, padding_mask, normalised, path)
        return pixels.permute(0, 3, 1, 2)

    def _mix(self, pixels: Tensor, padding_mask: PaddingMask | None, normalised: bool, path: str) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        eps = self.norm_layer.eps if normalised else None
        if not (takes_triton(path) and not is_traced() and is_plain(self.dwconv, nn.Conv2d)):
            # Two products instead of one and a split: halves of a channels_last map would be copied.
            (gate_weight, value_weight), (gate_bias, value_bias) = self.fc1.matrix.chunk(2), self.fc1.bias.chunk(2)
            gate = linear(pixels, gate_weight, gate_bias).permute(0, 3, 1, 2)
            if padding_mask is not None:
                gate = padding_mask.zero_padding(gate, inplace=True)
            value = linear(pixels, value_weight, value_bias)
            product = gelu_mul(self.dwconv(gate).permute(0, 2, 3, 1), value, path)
            return self._project(product, self._gain(normalised), self.fc2.matrix, self.fc2.bias, eps, None)
        expand, expand_bias, gain, project, project_bias = self._cast_weights(pixels, normalised)
        sizes = None if padding_mask is None else padding_mask.sizes
        # Detached: the gate finds the gradient of its bias.
        both = linear(pixels, expand, expand_bias.detach())
        depthwise = self.dwconv.weight, self.dwconv.bias
        product, scale = conv_gelu_mul(both, self.fc1.bias, *depthwise, eps, path, sizes)
        return self._project(product, gain, project, project_bias, eps, scale)

    def _gain(self, normalised: bool) -> Tensor | None:
        return self.norm_layer.weight if normalised else None

    def _cast_weights(self, pixels: Tensor, normalised: bool) -> tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor]:
        """Weight and bias of ``fc1``, the gain of the norm, weight and bias of ``fc2``.

        Under autocast on a GPU they are cast together, the gain is in ``fc2``'s weight, and hidden channels are padded
        with zeros to a number that products like.
        """
        gain, project, dtype = self._gain(normalised), self.fc2.matrix, cast_together(pixels)
        weights = self.fc1.matrix, self.fc1.bias, project, self.fc2.bias
        if dtype is None or any(weight.dtype != torch.float32 for weight in weights):
            return *weights[:2], gain, *weights[2:]
        zeros = padding(project.shape[1])
        project = project if gain is None else project * gain
        project = F.pad(project, (0, zeros)) if zeros else project
        parts = [Parts(2, zeros), Parts(2, zeros), Parts(), Parts()]
        expand, expand_bias, project, bias = cast_weights((*weights[:2], project, weights[3]), dtype, parts)
        return expand, expand_bias, None, project, bias

    @staticmethod
    def _project(
        product: Tensor, gain: Tensor | None, weight: Tensor, bias: Tensor, eps: float | None, scale: Tensor | None
    ) -> Tensor:
        """RMSNorm, unless eps is None, and ``fc2``."""
        if eps is None:
            return linear(product, weight, bias)
        product = rms_linear(product, gain, weight, eps, scale)
        return product + bias.to(product.dtype)


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
