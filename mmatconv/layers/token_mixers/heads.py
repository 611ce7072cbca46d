"""From a feature map to the tokens of attention heads and back, without a copy in either memory format."""

from torch import Tensor


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(B, C, H, W) -> (B, num_heads, H * W, C / num_heads)."""
    return x.flatten(2).unflatten(1, (num_heads, -1)).transpose(2, 3)


def merge_heads(x: Tensor, height: int, width: int) -> Tensor:
    """(B, num_heads, H * W, C / num_heads) -> (B, C, H, W) in channels_last memory format."""
    return x.transpose(1, 2).flatten(2).transpose(1, 2).unflatten(2, (height, width))
