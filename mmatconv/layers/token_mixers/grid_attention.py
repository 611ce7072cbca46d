"""MaxViT's grid attention (arXiv 2204.01697), a row of the paper's figure 4."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmatconv.layers.checks import check_num_heads
from mmatconv.layers.token_mixers.per_image import PerImageMixer
from mmatconv.layers.token_mixers.windows import (
    merge_windows,
    pad_to_windows,
    relative_position_index,
    relative_position_table,
    split_windows,
)
from mmatconv.ops.products import linear


class GridAttention(PerImageMixer):
    """Attention among pixels a grid step apart: a dilated window of ``grid_size`` x ``grid_size`` over the whole map.

    With Swin's relative position biases and biases in both linear layers. Maps that the grid does not divide are padded
    with zeros at the right and at the bottom, and cropped again.

    Args:
        dim: Channels C.
        num_heads: Must divide ``dim``; None for ``dim // 32``, as MaxViT has. Default: None.
        grid_size: Positions in each direction that attend to each other. Default: 7.

    Raises:
        UserError: A ``num_heads`` that does not divide ``dim``.
    """

    def __init__(self, dim: int, num_heads: int | None = None, grid_size: int = 7) -> None:
        super().__init__()
        num_heads = dim // 32 if num_heads is None else num_heads
        check_num_heads(dim, num_heads)
        self.num_heads = num_heads
        self.grid_size = grid_size
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.relative_position_bias_table = relative_position_table(num_heads, grid_size, grid_size)
        self.register_buffer('index', relative_position_index(grid_size, grid_size), persistent=False)

    def mix(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        grid = self.grid_size
        x = pad_to_windows(x.permute(0, 2, 3, 1), grid, grid)
        padded = x.shape[1:3]
        steps = [side // grid for side in padded]
        qkv = linear(x, self.qkv.weight, self.qkv.bias).unflatten(3, (3, self.num_heads, -1))
        # Pixels a grid step apart side by side: windows in a map of (H / step, step) transposed.
        qkv = qkv.unflatten(2, (grid, steps[1])).transpose(2, 3).flatten(2, 3)
        qkv = qkv.unflatten(1, (grid, steps[0])).transpose(1, 2).flatten(1, 2)
        q, k, v = (split_windows(part, grid, grid) for part in qkv.unbind(3))
        bias = self.relative_position_bias_table[self.index].permute(2, 0, 1).to(q.dtype)[None]
        attended = merge_windows(F.scaled_dot_product_attention(q, k, v, bias), padded, grid, grid)
        attended = attended.unflatten(1, (steps[0], grid)).transpose(1, 2).flatten(1, 2)
        attended = attended.unflatten(2, (steps[1], grid)).transpose(2, 3).flatten(2, 3)[:, :height, :width]
        return linear(attended, self.proj.weight, self.proj.bias).permute(0, 3, 1, 2)

    def extra_repr(self) -> str:
        return f'num_heads={self.num_heads}, grid_size={self.grid_size}'
