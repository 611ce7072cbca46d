"""Stage 7: the operator on the four maps of AttNet-T2 at 800 x 1344: GPU time by graph replay, and eager time."""

from collections.abc import Callable

import torch

from mmatconv.analysis.benchmark.case import Case, Setting
from mmatconv.analysis.benchmark.operators import COPY, operator_case
from mmatconv.analysis.benchmark.runs import Run
from mmatconv.analysis.benchmark.timing import interleave, stopwatch
from mmatconv.analysis.gpu_check.graph_timing import captured
from mmatconv.analysis.gpu_check.record import Record
from mmatconv.analysis.gpu_check.target import Target
from mmatconv.analysis.gpu_check.tile_sweep import sweep

MAPS = ((64, (200, 336)), (128, (100, 168)), (288, (50, 84)), (512, (25, 42)))
NAMES = ('ours, triton', 'grouped', 'static', COPY)
COLUMNS = ('map', 'K', 'format', 'what', *(f'{name}, us' for name in NAMES), 'ours eager, us', 'ours, of copy speed')
# Calls in a graph: a map of stage 4 takes as long as starting a graph.
CALLS = 10


def run(record: Record, target: Target) -> None:
    if not target.on_gpu:
        record.needs_gpu('operator times', 'other tiles')
        return
    record.check('operator times', lambda: operator_times(record, target))
    record.check('other tiles', lambda: sweep(record, target))


def operator_times(record: Record, target: Target) -> None:
    rows: list[list[str]] = []
    try:
        for size in (3, 7):
            for mode in ('forward', 'backward'):
                for memory_format in target.formats:
                    for channels, sides in MAPS:
                        setting = Setting(
                            mode, sides, 2, 'bfloat16', memory_format, target.device, channels, kernel_size=size
                        )
                        rows.append(one_row(operator_case(setting)))
    finally:
        record.table('operator, batch 2, bfloat16; GPU time by graph replay', COLUMNS, rows)


def one_row(case: Case) -> list[str]:
    runs = {c.name: Run(c, case) for c in case.candidates if c.name in NAMES}
    eager = interleave({NAMES[0]: runs[NAMES[0]]}, 3, 3, stopwatch('cuda'))[NAMES[0]].median
    replays: dict[str, Callable[[], None]] = {name: captured(runs[name], CALLS) for name in NAMES}
    found = {name: t.median / CALLS for name, t in interleave(replays, 5, 2, stopwatch('cuda')).items()}
    ours = next(c for c in case.candidates if c.name == NAMES[0])
    share = ours.passes / 2 * found[COPY] / found[NAMES[0]]
    setting = case.setting
    shape = ' x '.join(map(str, (setting.channels, *setting.size)))
    torch.cuda.synchronize()
    times = [f'{1e6 * found[name]:.1f}' for name in NAMES]
    return [
        shape, str(setting.kernel_size), setting.memory_format, setting.mode, *times, f'{1e6 * eager:.1f}',
        f'{share:.0%}',
    ]  # fmt: skip
