"""Attention within windows of a map: cutting, joining, relative positions."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def pad_to_windows(x: Tensor, height: int, width: int) -> Tensor:
    """Zeros at the right and at the bottom of (B, H, W, C) until windows of ``height`` x ``width`` divide it."""
    return F.pad(x, (0, 0, 0, -x.shape[2] % width, 0, -x.shape[1] % height))


def split_windows(x: Tensor, height: int, width: int) -> Tensor:
    """(B, H, W, heads, d) -> (B * windows, heads, height * width, d); the windows must divide the map."""
    x = x.unflatten(2, (-1, width)).unflatten(1, (-1, height))
    return x.permute(0, 1, 3, 5, 2, 4, 6).flatten(4, 5).flatten(0, 2)


def merge_windows(x: Tensor, size: tuple[int, int], height: int, width: int) -> Tensor:
    """(B * windows, heads, height * width, d) -> (B, H, W, heads * d), H and W given as ``size``."""
    x = x.unflatten(2, (height, width)).unflatten(0, (-1, size[0] // height, size[1] // width))
    return x.permute(0, 1, 4, 2, 5, 3, 6).flatten(5).flatten(3, 4).flatten(1, 2)


def relative_position_table(num_heads: int, height: int, width: int) -> nn.Parameter:
    """Swin's learned biases, ((2 * height - 1) * (2 * width - 1), num_heads), as Swin initialises them."""
    table = nn.Parameter(torch.empty((2 * height - 1) * (2 * width - 1), num_heads))
    return nn.init.trunc_normal_(table, std=0.02)


def relative_position_index(height: int, width: int) -> Tensor:
    """(N, N): the row of the table for each query and key among the N positions of a window, row by row."""
    rows = torch.arange(height).repeat_interleave(width)
    columns = torch.arange(width).repeat(height)
    down = rows[:, None] - rows + height - 1
    right = columns[:, None] - columns + width - 1
    return down * (2 * width - 1) + right
