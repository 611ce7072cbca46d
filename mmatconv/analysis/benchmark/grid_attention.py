"""MaxViT's grid attention, timm's own class on maps."""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

GRID = 8


class GridAttention(nn.Module):
    """Attention among the pixels that are a grid step apart: a dilated window over the whole map.

    Args:
        dim: Channels C, a multiple of 32.

    Raises:
        ImportError: timm is not installed.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        from timm.models.maxxvit import AttentionCl, RelPosBias, grid_partition, grid_reverse

        self.attention = AttentionCl(dim, rel_pos_cls=partial(RelPosBias, window_size=(GRID, GRID)))
        self.partition, self.reverse = grid_partition, grid_reverse

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W); the map is padded to a multiple of the grid."""
        height, width = x.shape[2:]
        x = F.pad(x, (0, -width % GRID, 0, -height % GRID)).permute(0, 2, 3, 1).contiguous()
        tokens = self.attention(self.partition(x, (GRID, GRID)))
        return self.reverse(tokens, (GRID, GRID), x.shape[1:3])[:, :height, :width].permute(0, 3, 1, 2)
