"""ACmix with Swin's window attention, the released form for Swin."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmatconv.layers.token_mixers.acmix import ACmix
from mmatconv.layers.token_mixers.windows import (
    merge_windows,
    pad_to_windows,
    relative_position_index,
    relative_position_table,
    split_windows,
)
from mmatconv.ops.products import linear


class ACmixWindow(ACmix):
    """Window attention and a convolution that share their projection.

    As in the authors' code the windows of every second block are shifted by rolling the map, the convolution sees the
    rolled map, and it is not projected. Maps that the windows do not divide are padded with zeros at the right and at
    the bottom as in Swin, and cropped again. Along a side that is one window there is no shift.

    In Swin's frame with linear patch merging and the 1000-way head this has 28,649,908 (tiny) and 50,345,080 (small)
    parameters, as the authors' models.

    Args:
        dim: Channels C.
        num_heads: Must divide ``dim``. Default: 8.
        window_size: Side of a window in pixels. Default: 7.
        block: Index of the block in its stage; odd ones shift. Default: 0.

    Raises:
        UserError: A ``num_heads`` that does not divide ``dim``.
    """

    def __init__(self, dim: int, num_heads: int = 8, window_size: int = 7, block: int = 0) -> None:
        super().__init__(dim, num_heads, fc_bias=True)
        self.window_size = window_size
        self.shift_size = window_size // 2 if block % 2 else 0
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.relative_position_bias_table = relative_position_table(num_heads, window_size, window_size)
        index = relative_position_index(window_size, window_size)
        self.register_buffer('relative_position_index', index, persistent=False)

    def mix(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        x = pad_to_windows(x.permute(0, 2, 3, 1), self.window_size, self.window_size)
        shifts = [self.shift_size if side > self.window_size else 0 for side in x.shape[1:3]]
        x = x.roll([-shift for shift in shifts], (1, 2)) if any(shifts) else x
        grouped = linear(x, self.by_group(self.qkv.weight), self.by_group(self.qkv.bias))
        mask = shift_mask(x.shape[1:3], self.window_size, shifts, x.device) if any(shifts) else None
        output = self.blend(self.attend(grouped, mask), self.convolve(grouped).permute(0, 2, 3, 1))
        output = output.roll(shifts, (1, 2)) if any(shifts) else output
        return output[:, :height, :width].permute(0, 3, 1, 2)

    def attend(self, grouped: Tensor, mask: Tensor | None = None) -> Tensor:
        """The attention branch.

        Args:
            grouped: (B, H, W, 3 * C) :meth:`by_group`, H and W multiples of the window.
            mask: (windows, N, N), added to the attention of N positions in each window. Default: None.

        Returns:
            (B, H, W, C).
        """
        size = self.window_size
        q, k, v = (split_windows(part, size, size) for part in self.parts(grouped))
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        if mask is None:
            attended = F.scaled_dot_product_attention(q, k, v, bias.to(q.dtype)[None])
        else:
            # Windows beside heads, so that one bias serves all samples.
            bias = (mask[:, None] + bias).flatten(0, 1).to(q.dtype)[None]
            q, k, v = (part.unflatten(0, (-1, len(mask))).flatten(1, 2) for part in (q, k, v))
            attended = F.scaled_dot_product_attention(q, k, v, bias).unflatten(1, (len(mask), -1)).flatten(0, 1)
        return linear(merge_windows(attended, grouped.shape[1:3], size, size), self.proj.weight, self.proj.bias)

    def extra_repr(self) -> str:
        return f'{super().extra_repr()}, window_size={self.window_size}, shift_size={self.shift_size}'


def shift_mask(size: tuple[int, int], window_size: int, shifts: list[int], device: torch.device) -> Tensor:
    """What keeps apart, within windows of a rolled map, pixels that are not neighbours.

    Args:
        size: Height and width of the map.
        window_size: Side of a window.
        shifts: How far the map was rolled up and to the left.
        device: Of the result.

    Returns:
        (windows, N, N): 0 where query and key belong together, else -100, as in Swin.
    """
    down, right = ((torch.arange(side, device=device) >= side - shift).int() for side, shift in zip(size, shifts))
    region = (2 * down[:, None] + right)[None, :, :, None, None]
    region = split_windows(region, window_size, window_size).flatten(1)
    return (region[:, :, None] != region[:, None, :]) * -100.0
