"""A case measured: agreement first, then memory, then time, then what follows from them."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from mmatconv.analysis.benchmark.agreement import check_agreement
from mmatconv.analysis.benchmark.case import Case
from mmatconv.analysis.benchmark.memory import held_bytes, peak_growth
from mmatconv.analysis.benchmark.operators import COPY
from mmatconv.analysis.benchmark.runs import Run
from mmatconv.analysis.benchmark.timing import Stopwatch, Times, interleave


@dataclass
class Measured:
    """What was measured of one candidate.

    Attributes:
        name: The candidate's.
        times: Readings.
        held: Bytes it keeps between calls.
        peak: Bytes at the worst moment of a call, ``held`` included.
        error: Against the candidate it must equal, None where there is none.
        floor: Bytes that have to be moved at least, None where that is not known.
    """

    name: str
    times: Times
    held: int
    peak: int
    error: float | None = None
    floor: int | None = None

    @property
    def bandwidth(self) -> float | None:
        """Bytes of the floor for each second."""
        return None if self.floor is None else self.floor / self.times.median


@dataclass
class Outcome:
    """A measured case.

    Attributes:
        case: The case.
        measured: Candidates that ran, in their order.
        failed: Names of those that ran out of memory.
    """

    case: Case
    measured: list[Measured]
    failed: list[str] = field(default_factory=list)

    def find(self, name: str) -> Measured | None:
        """The candidate of that name, None if it did not run."""
        return next((entry for entry in self.measured if entry.name == name), None)

    def speed(self, entry: Measured) -> float | None:
        """How many times as fast as the reference."""
        reference = self.find(self.case.reference)
        return None if reference is None else reference.times.median / entry.times.median

    def memory(self, entry: Measured) -> float | None:
        """Peak memory as a share of the reference's."""
        reference = self.find(self.case.reference)
        return None if reference is None or not reference.peak else entry.peak / reference.peak

    def share(self, entry: Measured) -> float | None:
        """Bandwidth as a share of that of a copy of the map in the same run."""
        copy = self.find(COPY)
        return None if copy is None or entry.bandwidth is None else entry.bandwidth / copy.bandwidth


def measure(
    case: Case, repeats: int, warmup: int, stopwatch: Stopwatch, tick: Callable[[], None] = lambda: None
) -> Outcome:
    """Measure all candidates of a case.

    Args:
        case: The case.
        repeats: Readings of each.
        warmup: Calls of each before them; at least one is made.
        stopwatch: See :func:`mmatconv.analysis.benchmark.timing.interleave`.
        tick: Called after every reading.

    Raises:
        UserError: Candidates that must be equal are not; nothing was timed.
    """
    if case.setting.compiled:
        # One function may only be compiled so many times before torch gives up on it and says nothing.
        torch.compiler.reset()
    runs, failed = {}, []
    for candidate in case.candidates:
        run = Run(candidate, case)
        try:
            run()
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            failed.append(candidate.name)
            run.drop_gradients()
            if case.setting.device == 'cuda':
                torch.cuda.empty_cache()
            continue
        runs[candidate.name] = run
    errors = check_agreement(case, runs)
    timed = {c.name: runs[c.name] for c in case.candidates if c.timed and c.name in runs}
    device = case.setting.device
    growth = {name: peak_growth(run, device) for name, run in timed.items()}
    times = interleave(timed, repeats, warmup, stopwatch, tick)
    measured = []
    for candidate in case.candidates:
        name = candidate.name
        if name not in timed:
            continue
        held = held_bytes(timed[name].held())
        floor = None if candidate.passes is None else candidate.passes * held_bytes(candidate.inputs[:1])
        measured.append(Measured(name, times[name], held, held + growth[name], errors.get(name), floor))
    return Outcome(case, measured, failed)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, of a GPU or of the machine, was not enough."""
    return isinstance(error, torch.cuda.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
