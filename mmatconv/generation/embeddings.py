"""What SiT is told besides the image: the time, the class, the place of a patch.

Parameter names are those of the released code (github.com/price112/Attentive-Convolution, MIT licence, Copyright (c)
2025 price112), which has them from SiT (github.com/willisma/SiT), so that weights of both load unchanged.
"""

import math

import torch
from torch import Tensor, nn

FREQUENCIES = 256
LONGEST_PERIOD = 10000


class TimeEmbedder(nn.Module):
    """The time of the path through sines and cosines and two layers.

    Args:
        dim: Channels D.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(FREQUENCIES, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, t: Tensor) -> Tensor:
        """(B,) -> (B, D). The waves are computed in the dtype of ``t``, at least in single precision."""
        t = t.to(torch.promote_types(t.dtype, torch.float32))
        waves = _waves(t, FREQUENCIES // 2)
        return self.mlp(torch.cat([waves.cos(), waves.sin()], dim=1).to(self.mlp[0].weight.dtype))


class LabelEmbedder(nn.Module):
    """One vector for each class and, with label dropout, one for no class: classifier-free guidance needs it.

    Args:
        num_classes: Classes; the label ``num_classes`` is 'no class'.
        dim: Channels D.
        dropout: How often a label becomes 'no class' in training, 0 to 1.
    """

    def __init__(self, num_classes: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.dropout = dropout
        self.embedding_table = nn.Embedding(num_classes + (dropout > 0), dim)

    def forward(self, labels: Tensor) -> Tensor:
        """(B,) -> (B, D)."""
        if self.training and self.dropout > 0:
            dropped = torch.rand(labels.shape, device=labels.device) < self.dropout
            labels = labels.masked_fill(dropped, self.num_classes)
        return self.embedding_table(labels)


def position_embedding(height: int, width: int, dim: int) -> Tensor:
    """Sines and cosines of the column in the first half of the channels, of the row in the second.

    Args:
        height: Rows of patches.
        width: Columns of patches.
        dim: Channels D, divisible by 4.

    Returns:
        (1, height * width, D) in single precision.
    """
    rows = torch.arange(height, dtype=torch.float64).repeat_interleave(width)
    columns = torch.arange(width, dtype=torch.float64).repeat(height)
    parts = [wave for place in (columns, rows) for wave in _sine_and_cosine(_waves(place, dim // 4))]
    return torch.cat(parts, dim=1).float()[None]


def _waves(place: Tensor, count: int) -> Tensor:
    """(N,) -> (N, count): times frequencies from 1 down to nearly ``1 / LONGEST_PERIOD``, in equal ratios."""
    exponents = torch.arange(count, dtype=place.dtype, device=place.device) / count
    return place[:, None] * torch.exp(-math.log(LONGEST_PERIOD) * exponents)


def _sine_and_cosine(waves: Tensor) -> tuple[Tensor, Tensor]:
    return waves.sin(), waves.cos()
