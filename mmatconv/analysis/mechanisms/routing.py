"""Adaptive routing: from where in a map a position of the output is influenced (figure 1 a of arXiv 2510.20092)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# Share of the positions, those of the largest influence, that an arrow's centroid is taken over. The caption leaves it
# open ('high-influence regions').
HIGH_INFLUENCE = 0.05


def influence_map(layer: nn.Module, x: Tensor, position: tuple[int, int], channel: int) -> Tensor:
    """``G(h, w) = sum over c of |dy[c*, h*, w*] / dx[c, h, w]|``, the caption of figure 1.

    Args:
        layer: (1, C, H, W) -> (1, C, H, W).
        x: (1, C, H, W).
        position: h* and w*.
        channel: c*.

    Returns:
        (H, W), of the dtype of ``x``.
    """
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        (grad,) = torch.autograd.grad(layer(x)[0, channel, position[0], position[1]], x)
    return grad[0].abs().sum(0)


def distances(size: Sequence[int], position: tuple[int, int]) -> Tensor:
    """Euclidean distance in pixels of the map of every position to one: (H, W)."""
    rows, columns = (torch.arange(side, dtype=torch.float32) - centre for side, centre in zip(size, position))
    return torch.hypot(rows[:, None], columns[None, :])


def far_ratio(influence: Tensor, position: tuple[int, int], radius: float) -> float:
    """FAR of figure 1: the share of all influence that comes from further away than ``radius`` pixels of the map.

    Args:
        influence: (H, W), not negative.
        position: Of the output.
        radius: r0.

    Returns:
        From 0 to 1; 0 where there is no influence at all.
    """
    total = influence.sum()
    far = influence[distances(influence.shape, position).to(influence.device) > radius].sum()
    return float(far / total) if total > 0 else 0.0


def centroid(influence: Tensor, position: tuple[int, int], share: float = HIGH_INFLUENCE) -> tuple[float, float]:
    """The distance-weighted centroid of the high-influence region, where an arrow of figure 1 points.

    The mean place of the positions of largest influence, each weighted by its influence times its distance to
    ``position``: what lies at the position itself moves nothing.

    Args:
        influence: (H, W), not negative.
        position: Of the output.
        share: Of all positions, the most influential ones, that belong to the region. Default: 0.05.

    Returns:
        Row and column; ``position`` where nothing but it has influence.
    """
    count = max(2, round(share * influence.numel()))
    values, places = influence.double().flatten().topk(min(count, influence.numel()))
    weights = values * distances(influence.shape, position).to(influence.device).double().flatten()[places]
    if weights.sum() == 0:
        return float(position[0]), float(position[1])
    weights = weights / weights.sum()
    width = influence.shape[1]
    return float((weights * (places // width)).sum()), float((weights * (places % width)).sum())


@dataclass
class Routing:
    """How a layer routes on one map.

    Attributes:
        positions: Where the output was looked at.
        influences: A map (H, W) for each.
        centroids: Row and column for each.
        far: The far ratio of each.
    """

    positions: list[tuple[int, int]]
    influences: list[Tensor]
    centroids: list[tuple[float, float]]
    far: list[float]

    @property
    def mean_far(self) -> float:
        """FAR, the mean over the positions."""
        return sum(self.far) / len(self.far)

    @property
    def diversity(self) -> float:
        """How much the arrows differ from position to position: root mean square deviation from their mean, in pixels
        of the map. 0 for a fixed pattern.
        """
        arrows = torch.tensor(self.centroids) - torch.tensor(self.positions)
        return float((arrows - arrows.mean(0)).square().sum(1).mean().sqrt())


def positions_of(size: Sequence[int], count: int) -> list[tuple[int, int]]:
    """``count * count`` positions in the middle of equal cells of a map (H, W)."""
    rows, columns = ([(2 * i + 1) * side // (2 * count) for i in range(count)] for side in size)
    return [(row, column) for row in rows for column in columns]


def route(layer: nn.Module, x: Tensor, positions: Sequence[tuple[int, int]], radius: float) -> Routing:
    """Influence, centroid and far ratio at several positions of (1, C, H, W); ``radius`` in pixels of the map.

    The channel c* is the one of the largest mean absolute output, the same at all positions.
    """
    with torch.no_grad():
        channel = int(layer(x).abs().mean(dim=(0, 2, 3)).argmax())
    influences = [influence_map(layer, x, position, channel).cpu() for position in positions]
    return Routing(
        list(positions),
        influences,
        [centroid(influence, position) for influence, position in zip(influences, positions)],
        [far_ratio(influence, position, radius) for influence, position in zip(influences, positions)],
    )
