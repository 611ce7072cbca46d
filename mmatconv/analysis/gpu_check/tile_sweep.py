"""The operator's kernels with other tiles and numbers of programs than those that ship: are these the fastest?"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from mmatconv.analysis.benchmark.case import Setting
from mmatconv.analysis.benchmark.operators import operator_case
from mmatconv.analysis.benchmark.runs import Run
from mmatconv.analysis.benchmark.timing import interleave, stopwatch
from mmatconv.analysis.gpu_check.graph_timing import captured
from mmatconv.analysis.gpu_check.record import Record
from mmatconv.analysis.gpu_check.target import Target

SIZE = 3
TABLES = {'forward': 'CONVOLVE_LANE', 'backward': 'GRADIENTS_LANE'}
# What a thread holds, as in those tables.
LANES = ((1, 4, 2), (1, 8, 4), (2, 4, 4), (2, 8, 8), (4, 4, 8))
# Times the programs that ship.
PROGRAMS = (0.5, 2.0)
MAPS = ((64, (200, 336)), (288, (50, 84)))
CALLS = 10
OURS = 'ours, triton'


@contextmanager
def other_tiles(mode: str, lane: tuple[int, ...] | None = None, programs: float = 1.0) -> Iterator[None]:
    """Another lane for kernels of ``SIZE``, or another number of programs; plans made with others are forgotten."""
    from mmatconv.ops.dynamic_conv import triton_launch

    table = getattr(triton_launch, TABLES[mode])
    former_lane, former_programs = table[SIZE], dict(triton_launch.PROGRAMS)
    try:
        table[SIZE] = lane or former_lane
        triton_launch.PROGRAMS.update({key: int(count * programs) for key, count in former_programs.items()})
        triton_launch._plan.cache_clear()
        yield
    finally:
        table[SIZE] = former_lane
        triton_launch.PROGRAMS.update(former_programs)
        triton_launch._plan.cache_clear()


def sweep(record: Record, target: Target) -> None:
    """A table of the times with each, bfloat16, batch 2."""
    choices: list[Mapping] = [{}, *(dict(lane=lane) for lane in LANES), *(dict(programs=share) for share in PROGRAMS)]
    names = ['as shipped', *(str(lane) for lane in LANES), *(f'{share} x programs' for share in PROGRAMS)]
    rows = []
    try:
        for mode in TABLES:
            for memory_format in target.formats:
                for channels, sides in MAPS:
                    setting = Setting(mode, sides, 2, 'bfloat16', memory_format, target.device, channels, SIZE)
                    times = [_time(setting, choice) for choice in choices]
                    shape = ' x '.join(map(str, (channels, *sides)))
                    rows.append([mode, shape, memory_format, *(f'{1e6 * seconds:.1f}' for seconds in times)])
    finally:
        columns = ('what', 'map', 'format', *(f'{name}, us' for name in names))
        record.table(f'operator with other tiles, K {SIZE}, bfloat16', columns, rows)


def _time(setting: Setting, choice: Mapping) -> float:
    with other_tiles(setting.mode, **choice):
        case = operator_case(setting)
        candidate = next(c for c in case.candidates if c.name == OURS)
        replay = captured(Run(candidate, case), CALLS)
        seconds = interleave({'': replay}, 3, 1, stopwatch('cuda'))[''].median / CALLS
        torch.cuda.synchronize()
    return seconds
