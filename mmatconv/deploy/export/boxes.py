"""Boxes from what a head predicts for its anchors or proposals."""

import math

import torch
from torch import Tensor, nn

from mmatconv.deploy.export.checks import refuse_other


class Decode(nn.Module):
    """mmdet's DeltaXYWHBBoxCoder without its assignments in place.

    Raises:
        UserError: A coder of another class.
    """

    # mmdet's limit of what a box may grow or shrink by, logarithm.
    LARGEST = abs(math.log(16 / 1000))

    def __init__(self, coder: object, name: str) -> None:
        super().__init__()
        refuse_other(coder, f'{name}.bbox_coder', ['DeltaXYWHBBoxCoder'])
        self.register_buffer('means', torch.tensor(coder.means, dtype=torch.float32))
        self.register_buffer('stds', torch.tensor(coder.stds, dtype=torch.float32))
        self.clip = coder.clip_border
        self.most_shift = float(coder.ctr_clamp) if coder.add_ctr_clamp else None

    def forward(self, boxes: Tensor, deltas: Tensor, limits: Tensor) -> Tensor:
        """Boxes (..., 4), what is predicted for them (..., 4) and :func:`limits_of` the image -> (..., 4)."""
        deltas = deltas * self.stds + self.means
        first, last = boxes[..., :2], boxes[..., 2:]
        size = last - first
        shift, growth = size * deltas[..., :2], deltas[..., 2:]
        if self.most_shift is None:
            growth = growth.clamp(-self.LARGEST, self.LARGEST)
        else:
            shift, growth = shift.clamp(-self.most_shift, self.most_shift), growth.clamp(max=self.LARGEST)
        centre, half = (first + last) * 0.5 + shift, size * growth.exp() * 0.5
        decoded = torch.cat([centre - half, centre + half], dim=-1)
        return torch.minimum(decoded.clamp(min=0), limits) if self.clip else decoded


def limits_of(image: Tensor) -> Tensor:
    """The largest corners of boxes in an image (B, C, H, W): (W, H, W, H)."""
    # Sums over ones: a size that is only known when the graph runs has no other way into a tensor in every exporter.
    height, width = (torch.ones_like(image[0, 0].select(1 - axis, 0)).float().sum() for axis in (0, 1))
    return torch.stack([width, height, width, height])
