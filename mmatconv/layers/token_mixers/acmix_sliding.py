"""ACmix with attention in a window around each pixel, the released form for ResNet."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmatconv.layers.checks import check_kernel_size
from mmatconv.layers.pointwise import PointwiseConv
from mmatconv.layers.token_mixers.acmix import ACmix
from mmatconv.layers.token_mixers.windows import merge_windows, pad_to_windows, split_windows
from mmatconv.ops.products import linear

# Side of the tiles of queries, in pixels of the output, for windows up to this size: larger tiles copy less and
# multiply more, 64 queries by 196 keys at a window of 7.
TILE = 8


class ACmixSliding(ACmix):
    """Attention of each pixel to the window around it and a convolution that share their projection.

    The map is continued by reflection. A position code, a linear function of a pixel's place in the map from -1 to 1,
    enters as ``q . (k + code of the query - code of the key)``. ``q . code of the query`` is the same for all keys, so
    the softmax does not see it, and what is left is attention to ``k - code``.

    The authors' code copies every key and value once for each pixel of a window and calls itself extremely
    inefficient. Here queries are taken in tiles, each with the keys that any of them sees. On maps much larger
    than a tile that makes about four copies of keys and values at most, whatever the window (three for a window of 7,
    not 49); weights of attention are kept only where torch's attention kernel keeps them.

    Args:
        dim: Channels C.
        num_heads: Must divide ``dim``. Default: 4.
        attention_size: Side of the window in pixels, odd. Default: 7.
        stride: One pixel of the output for every ``stride`` x ``stride`` of the map, from the first on. Default: 1.

    Raises:
        UserError: A ``num_heads`` that does not divide ``dim``, or an even ``attention_size``.
    """

    def __init__(self, dim: int, num_heads: int = 4, attention_size: int = 7, stride: int = 1) -> None:
        super().__init__(dim, num_heads, fc_bias=False)
        check_kernel_size(attention_size)
        self.attention_size = attention_size
        self.stride = stride
        self.conv1 = PointwiseConv(dim, dim)
        self.conv2 = PointwiseConv(dim, dim)
        self.conv3 = PointwiseConv(dim, dim)
        self.conv_p = PointwiseConv(2, dim // num_heads)

    def mix(self, x: Tensor) -> Tensor:
        projections = (self.conv1, self.conv2, self.conv3)
        weight = self.by_group(torch.cat([projection.matrix for projection in projections]))
        bias = self.by_group(torch.cat([projection.bias for projection in projections]))
        grouped = linear(x.permute(0, 2, 3, 1), weight, bias)
        q, k, v = self.parts(grouped)
        code = self.conv_p(positions(x)).permute(0, 2, 3, 1).unsqueeze(3)
        attended = sliding_attention(q, k - code.to(k.dtype), v, self.attention_size, self.stride)
        return self.blend(attended.permute(0, 3, 1, 2), self.convolve(grouped, self.stride))

    def extra_repr(self) -> str:
        return f'{super().extra_repr()}, attention_size={self.attention_size}, stride={self.stride}'


def positions(x: Tensor) -> Tensor:
    """(1, 2, H, W): column and row of each pixel of (B, C, H, W), from -1 to 1."""
    rows, columns = (torch.linspace(-1, 1, side, dtype=x.dtype, device=x.device) for side in x.shape[2:])
    return torch.stack([columns.expand(len(rows), -1), rows[:, None].expand(-1, len(columns))])[None]


def sliding_attention(q: Tensor, k: Tensor, v: Tensor, size: int, stride: int = 1) -> Tensor:
    """Attention of every ``stride``-th pixel to the ``size`` x ``size`` around it in the map continued by reflection.

    Args:
        q: (B, H, W, heads, d).
        k: As ``q``.
        v: As ``q``.
        size: Odd.
        stride: Default: 1.

    Returns:
        (B, ceil(H / stride), ceil(W / stride), heads * d).
    """
    q = q[:, ::stride, ::stride]
    height, width = q.shape[1:3]
    tiles = [_tile(side, size) for side in (height, width)]
    q = pad_to_windows(q.flatten(3), *tiles).unflatten(3, q.shape[3:])
    mask = _seen(tiles, size, stride, q.device)
    keys, values = (_halos(x, q.shape[1:3], tiles, size, stride) for x in (k, v))
    output = F.scaled_dot_product_attention(split_windows(q, *tiles), keys, values, mask)
    return merge_windows(output, q.shape[1:3], *tiles)[:, :height, :width]


def _tile(side: int, size: int) -> int:
    """The side of a tile: as few tiles as there can be, of about the same size."""
    largest = max(TILE, size)
    count = (side + largest - 1) // largest
    return (side + count - 1) // count


def _halos(x: Tensor, queries: tuple[int, int], tiles: list[int], size: int, stride: int) -> Tensor:
    """What the queries of each tile see: (B, H, W, heads, d) -> (B * tiles, heads, keys of a tile, d)."""
    for dim, side in enumerate(queries, 1):
        x = x.index_select(dim, _reflected(x.shape[dim], size // 2, (side - 1) * stride + size, x.device))
    for dim, tile in enumerate(tiles, 1):
        x = x.unfold(dim, (tile - 1) * stride + size, tile * stride)
    return x.permute(0, 1, 2, 3, 5, 6, 4).flatten(4, 5).flatten(0, 2)


def _reflected(side: int, border: int, length: int, device: torch.device) -> Tensor:
    """(length,): indices into ``side`` pixels, from ``border`` before the first on, reflected as often as needed."""
    period = max(2 * side - 2, 1)
    index = (torch.arange(length, device=device) - border) % period
    return torch.minimum(index, period - index)


def _seen(tiles: list[int], size: int, stride: int, device: torch.device) -> Tensor:
    """(queries of a tile, keys of a tile): whether the query sees the key."""
    near = []
    for tile in tiles:
        offset = torch.arange((tile - 1) * stride + size, device=device)
        offset = offset - torch.arange(tile, device=device)[:, None] * stride
        near.append((offset >= 0) & (offset < size))
    return (near[0][:, None, :, None] & near[1][None, :, None, :]).flatten(2).flatten(0, 1)
