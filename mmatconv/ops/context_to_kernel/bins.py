"""The bins of context-to-kernel (C2K) in a padded batch: those of torch's adaptive average over each image alone."""

import torch
from torch import Tensor

from mmatconv.ops.padding import valid_pixels


def bounds(index: Tensor, count: int | Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """First and behind the last of ``count`` pixels for each bin of an adaptive average."""
    return index * count // bins, ((index + 1) * count + bins - 1) // bins


def members(sizes: Tensor, shape: tuple[int, int], size: int, grid: bool) -> tuple[Tensor, Tensor]:
    """Which pixels of padded maps lie in which bin.

    Args:
        sizes: (B, 2), heights and widths of the maps without their padding.
        shape: H and W with it.
        size: K.
        grid: Bins are cells of a K x K grid, rows first; else overlapping strips, runs of pixels in reading order.

    Returns:
        (B, K * K, H, W), boolean, and the number of pixels of each bin, (B, K * K, 1).
    """
    rows, columns = (torch.arange(side, device=sizes.device) for side in shape)
    heights, widths = sizes.unbind(1)
    if grid:
        along_rows, along_columns = _along(rows, heights, size), _along(columns, widths, size)
        inside = along_rows[0][:, :, None, :, None] & along_columns[0][:, None, :, None, :]
        return inside.flatten(1, 2), (along_rows[1] * along_columns[1].transpose(1, 2)).flatten(1)[:, :, None]
    heights, widths = heights[:, None, None], widths[:, None, None]
    place = rows[:, None] * widths + columns  # (B, H, W), in reading order of the valid pixels
    inside, length = _along(place.flatten(1)[:, None], (heights * widths).flatten(), size * size)
    return inside.unflatten(2, shape) & valid_pixels(sizes, shape), length


def _along(place: Tensor, count: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """Which of places (N,) or (B, 1, N) lie in which bin of ``count`` (B,) of them.

    Returns:
        (B, bins, N), boolean, and the lengths of the bins, (B, bins, 1).
    """
    first, last = bounds(torch.arange(bins, device=count.device)[:, None], count[:, None, None], bins)
    return (place >= first) & (place < last), last - first
