"""What the forms of ACmix (arXiv 2111.14556) share: one projection, a convolution branch made of it, two rates.

A 3x3 convolution is nine 1x1 convolutions, shifted and summed, and attention begins with three 1x1 convolutions. ACmix
makes queries, keys and values once. One branch is attention. In the other a fully connected layer (``fc``) mixes the
heads of the three into nine maps, which are shifted and summed by a grouped convolution (``dep_conv``) that starts as
the nine shifts and is learned. Parameter names are those of the authors' code (github.com/LeapLabTHU/ACmix), where both
released forms drop the bias of ``dep_conv``.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmatconv.layers.checks import check_num_heads
from mmatconv.layers.token_mixers.per_image import PerImageMixer

SHIFTS = 9
# Up to this many heads one 3x3 convolution of queries, keys and values (27 * heads * C multiply-adds a pixel) is faster
# than nine maps and a convolution of them (108 * C).
FEW_HEADS = 4


class ShiftConv(nn.Module):
    """The learned sum of nine shifted maps for each of C / num_heads groups; starts as the plain sum.

    Not a subclass of ``nn.Conv2d``, so that initialisations of whole models leave the shifts alone.

    Args:
        dim: Channels C.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(SHIFTS).reshape(SHIFTS, 3, 3).repeat(dim, 1, 1, 1))


class ACmix(PerImageMixer):
    """The base of all forms; a subclass defines ``mix``.

    Args:
        dim: Channels C.
        num_heads: Must divide ``dim``.
        fc_bias: A bias in the fully connected layer.

    Raises:
        UserError: A ``num_heads`` that does not divide ``dim``.
    """

    def __init__(self, dim: int, num_heads: int, fc_bias: bool) -> None:
        super().__init__()
        check_num_heads(dim, num_heads)
        self.num_heads = num_heads
        self.fc = nn.Conv2d(3 * num_heads, SHIFTS, 1, bias=fc_bias)
        self.dep_conv = ShiftConv(dim)
        self.rate1 = nn.Parameter(torch.full((1,), 0.5))
        self.rate2 = nn.Parameter(torch.full((1,), 0.5))

    def by_group(self, projection: Tensor) -> Tensor:
        """Rows or entries of a projection in the order of ``dep_conv``'s groups.

        Reordering the weights is free; reordering the map would be a copy of it.

        Args:
            projection: (3 * C, ...) for queries, keys and values, each by head and channel of the head.

        Returns:
            (3 * C, ...) by channel of the head, then queries, keys, values, then head.
        """
        return projection.unflatten(0, (3 * self.num_heads, -1)).transpose(0, 1).flatten(0, 1)

    def parts(self, grouped: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (B, H, W, num_heads, d), from (B, H, W, 3 * C) :meth:`by_group`."""
        return grouped.unflatten(3, (-1, 3, self.num_heads)).transpose(3, 5).unbind(4)

    def convolve(self, grouped: Tensor, stride: int = 1) -> Tensor:
        """The convolution branch.

        ``fc`` and ``dep_conv`` are linear, so that their product is one 3x3 convolution of queries, keys and values:
        with the initial shifts its kernels are the rows of ``fc``, else the learned ones. Nothing is made nine times.
        With many heads the nine maps, which are then fewer than the channels, are the shorter way.

        Args:
            grouped: (B, H, W, 3 * C) :meth:`by_group`.
            stride: Default: 1.

        Returns:
            (B, C, ceil(H / stride), ceil(W / stride)).
        """
        groups = grouped.shape[3] // (3 * self.num_heads)
        fc = self.fc.weight.flatten(1)
        if self.num_heads > FEW_HEADS:
            maps = F.linear(grouped.unflatten(3, (groups, -1)), fc, self.fc.bias).flatten(3)
            return F.conv2d(maps.permute(0, 3, 1, 2), self.dep_conv.weight, None, stride, 1, 1, groups)
        kernels = torch.einsum('otyx,ti->oiyx', self.dep_conv.weight, fc)
        output = F.conv2d(grouped.permute(0, 3, 1, 2), kernels, None, stride, 1, 1, groups)
        if self.fc.bias is None:
            return output
        # Beyond the border nine maps would be zero, so there the bias is missing too.
        ones = grouped.new_ones(1, 1, *grouped.shape[1:3])
        kernels = torch.einsum('otyx,t->oyx', self.dep_conv.weight, self.fc.bias)
        return output + F.conv2d(ones, kernels[:, None], None, stride, 1)

    def blend(self, attended: Tensor, convolved: Tensor) -> Tensor:
        """``rate1 * attended + rate2 * convolved``."""
        return self.rate1.to(attended.dtype) * attended + self.rate2.to(convolved.dtype) * convolved

    def extra_repr(self) -> str:
        return f'num_heads={self.num_heads}'
