"""Whether the cost grows linearly: time per pixel at one and at four times the pixels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mmatconv.analysis.benchmark.measure import Outcome

FACTOR, TOLERANCE = 4, 0.1


@dataclass(frozen=True)
class Growth:
    """Time per pixel of one candidate at two sizes.

    Attributes:
        title: The smaller case.
        name: The candidate's.
        small: Seconds per pixel of one sample at the smaller size.
        large: The same at four times the pixels.
    """

    title: str
    name: str
    small: float
    large: float

    @property
    def ratio(self) -> float:
        return self.large / self.small

    @property
    def linear(self) -> bool:
        """Within 10 % of the same time per pixel."""
        return abs(self.ratio - 1) <= TOLERANCE


def quadrupled(sizes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Every size, followed by twice its height and width."""
    return list(dict.fromkeys(size for height, width in sizes for size in ((height, width), (2 * height, 2 * width))))


def growths(outcomes: Sequence[Outcome]) -> Iterator[Growth]:
    """Every candidate in every two outcomes that differ in size alone, one with twice the height and width."""
    for small in outcomes:
        for large in outcomes:
            doubled = tuple(2 * side for side in small.case.setting.size)
            if _without_size(small) != _without_size(large) or large.case.setting.size != doubled:
                continue
            for entry in small.measured:
                other = large.find(entry.name)
                if other is not None:
                    per_pixel = [e.times.median / o.case.setting.pixels for e, o in ((entry, small), (other, large))]
                    yield Growth(small.case.title, entry.name, *per_pixel)


def _without_size(outcome: Outcome) -> tuple:
    setting = outcome.case.setting
    return outcome.case.level, outcome.case.model, setting.mode, setting.batch, setting.dtype, setting.memory_format
