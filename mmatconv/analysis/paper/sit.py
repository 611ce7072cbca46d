"""The models of table VIII: SiT at 512 x 512 pixels, latents of 64 x 64."""

from functools import cache

import torch

from mmatconv.analysis.complexity.counter import Complexity, count, counting_device
from mmatconv.analysis.complexity.projection_first import projection_first
from mmatconv.analysis.paper.figures import Counted
from mmatconv.generation import SiT

SIZE = 64


@cache
def complexity(arch: str, mixer: str, size: int = SIZE) -> tuple[Complexity, Complexity | None]:
    """The count of one forward pass, in the order of the paper, and with pooling first where there is ATConv.

    Args:
        arch: 'B/2', 'L/2' or 'XL/2'.
        mixer: 'attention', 'hybrid' or 'atconv'.
        size: Height and width of the latents. Default: 64.
    """
    with torch.device(counting_device()):
        model = SiT(arch, mixer, size)
    shapes = (1, 4, size, size), (1,)
    with projection_first(model):
        paper = count(model, *shapes)
    return paper, None if mixer == 'attention' else count(model, *shapes)


def figures(arch: str, mixer: str) -> dict[str, Counted]:
    """The figures of a row: parameters in millions, multiply-adds in billions."""
    paper, ours = complexity(arch, mixer)
    first = None if ours is None else ours.macs / 1e9
    return {'params': Counted(paper.params / 1e6), 'flops': Counted(paper.macs / 1e9, first)}
