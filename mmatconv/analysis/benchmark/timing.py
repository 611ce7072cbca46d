"""Stopwatches, and candidates timed in turns."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

# A reading of less than this holds too much of the stopwatch itself; shorter calls are repeated within it.
SHORTEST_READING = 5e-3
MOST_CALLS = 1000
Stopwatch = Callable[[Callable[[], object], int], float]


def wall_clock(call: Callable[[], object], times: int) -> float:
    """Seconds that ``times`` calls take on a CPU."""
    start = time.perf_counter()
    for _ in range(times):
        call()
    return time.perf_counter() - start


def cuda_events(call: Callable[[], object], times: int) -> float:
    """Seconds that ``times`` calls take on a GPU, gaps between its kernels included."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for _ in range(times):
        call()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3


def stopwatch(device: str) -> Stopwatch:
    """The stopwatch of 'cpu' or 'cuda'."""
    return cuda_events if device == 'cuda' else wall_clock


@dataclass(frozen=True)
class Times:
    """The readings of one candidate, seconds for one call each."""

    readings: Sequence[float]

    @property
    def median(self) -> float:
        return float(np.median(self.readings))

    @property
    def p10(self) -> float:
        return float(np.percentile(self.readings, 10))

    @property
    def p90(self) -> float:
        return float(np.percentile(self.readings, 90))


def interleave(
    calls: Mapping[str, Callable[[], object]],
    repeats: int,
    warmup: int,
    stopwatch: Stopwatch,
    tick: Callable[[], None] = lambda: None,
) -> dict[str, Times]:
    """Time candidates in turns, so that a slower minute of the machine is a slower minute for all of them.

    Each round every candidate is read once, and another one begins.

    Args:
        calls: The candidates by name.
        repeats: Rounds.
        warmup: Calls of each before the first round.
        stopwatch: Reads how many seconds a number of calls takes.
        tick: Called after every reading.

    Returns:
        The readings by name.
    """
    names = list(calls)
    inner = {}
    for name in names:
        for _ in range(warmup):
            calls[name]()
        first = max(stopwatch(calls[name], 1), 1e-9)
        inner[name] = min(max(round(SHORTEST_READING / first), 1), MOST_CALLS)
    readings: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(repeats):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            readings[name].append(stopwatch(calls[name], inner[name]) / inner[name])
            tick()
    return {name: Times(readings[name]) for name in names}
