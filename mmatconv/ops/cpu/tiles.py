"""Channel mixers without gradients on a CPU, a tile of rows at a time.

The hidden maps of a channel mixer are five to eleven times as wide as those around it. As a whole each of them travels
to memory and back; a tile stays in the cache from the first product to the last.
"""

import torch
from torch import Tensor

from mmatconv.ops.cpu.linear import linear, linear_gelu, linear_mul
from mmatconv.ops.rms_scale import rms_scale

# Elements of a hidden map in one tile: 2 MiB.
TILE_ELEMENTS = 1 << 19


def mlp(x: Tensor, expand: tuple[Tensor, Tensor], project: tuple[Tensor, Tensor]) -> Tensor:
    """``project(gelu(expand(x)))``.

    Args:
        x: (B, H, W, C), contiguous.
        expand: Weight (D, C) and bias (D,).
        project: Weight (E, D) and bias (E,).

    Returns:
        (B, H, W, E).
    """
    rows = x.flatten(0, -2)
    output = x.new_empty(rows.shape[0], project[0].shape[0])
    size = max(TILE_ELEMENTS // expand[0].shape[0], 1)
    for out, tile in zip(output.split(size), rows.split(size)):
        out.copy_(linear(linear_gelu(tile, *expand), *project))
    return output.view(*x.shape[:-1], -1)


def conv_glu(
    x: Tensor,
    expand: tuple[Tensor, Tensor],
    depthwise: tuple[Tensor, Tensor],
    project: tuple[Tensor, Tensor],
    norm: tuple[Tensor | None, float] | None,
    sizes: list[list[int]] | None = None,
) -> Tensor:
    """``project(norm(gelu(depthwise(gate)) * value))`` with gate and value from ``expand(x)``.

    Args:
        x: (B, H, W, C), contiguous.
        expand: Weight (2 * D, C) and bias (2 * D,): gate, then value.
        depthwise: Weight (D, 1, 3, 3) and bias (D,).
        project: Weight (C, D) and bias (C,).
        norm: Gain (D,) or None, and eps, of RMSNorm; None for no norm.
        sizes: Height and width of each map without its padding. The gate is zero in the padding; rows of padding are
            not computed, but set to zero. Default: None, no padding.

    Returns:
        (B, H, W, C).
    """
    (gate_weight, value_weight), (gate_bias, value_bias) = (entry.chunk(2) for entry in expand)
    height, width = x.shape[1:3]
    hidden = gate_weight.shape[0]
    weight, bias = project
    if norm is not None and norm[0] is not None:
        weight = weight * norm[0]  # the gain commutes with the product
    size = max(TILE_ELEMENTS // (hidden * width), 1)
    output = torch.empty_like(x)
    for image, out, (rows, columns) in zip(x.split(1), output.split(1), sizes or [[height, width]] * len(x)):
        out[:, rows:] = 0
        for top in range(0, rows, size):
            bottom = min(top + size, rows)
            # The convolution reads one row beyond the tile on either side, where there is one.
            first, last = max(top - 1, 0), min(bottom + 1, rows)
            gate = linear(image[:, first:last], gate_weight, gate_bias)
            gate[:, :, columns:] = 0
            gate = _conv_gelu(gate, *depthwise)[:, top - first : bottom - first]
            tile = linear_mul(image[:, top:bottom], value_weight, value_bias, gate)
            if norm is None:
                tile = linear(tile, weight, bias)
            else:
                tile = linear(tile, weight).mul_(rms_scale(tile, norm[1])).add_(bias)
            out[:, top:bottom] = tile
    return output


def _conv_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """GELU of a 3x3 depthwise convolution: (B, H, W, D) -> (B, H, W, D)."""
    convolve = torch.ops.mkldnn._convolution_pointwise
    x = x.permute(0, 3, 1, 2)
    x = convolve(x, weight, bias, [1, 1], [1, 1], [1, 1], weight.shape[0], 'gelu', [], 'none')
    return x.permute(0, 2, 3, 1)
