"""Levels 'traffic' and 'host': what a training step costs a GPU and its CPU, known without a GPU."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from rich.table import Table

from mmatconv.analysis.benchmark.case import Setting
from mmatconv.analysis.benchmark.host import HostTime, host_times
from mmatconv.analysis.benchmark.traffic import Traffic, Work, traffic

GPU_LEVELS = ('traffic', 'host')
# Python takes as long for small maps, and the operations of torch between take the least.
SIZES = {'traffic': (800, 1344), 'host': (64, 64)}
COSTLIEST = 12
LEGEND = {
    'traffic': (
        'launches: operations of torch that compute or copy, and kernels of ours; GB: read and written, every input '
        'and result once; saved: GB kept for the backward pass. On tensors without memory, with the kernels of a GPU.'
    ),
    'host': (
        'ms of CPU time for forward and backward, on small maps and with an eighth of the channels, so that the calls '
        'are what costs; our operators: their part of it, from cold caches, and called again in a row, from warm ones. '
        'Kernels are prepared for launch and not launched.'
    ),
}


@dataclass
class Found:
    """What a level found of one model.

    Attributes:
        title: Of its tables.
        tables: To be printed.
        results: For JSON.
    """

    title: str
    tables: list[Table]
    results: list[dict]


def find(level: str, name: str, setting: Setting, repeats: int, warmup: int) -> Found:
    """One model at one level.

    Args:
        level: One of ``GPU_LEVELS``.
        name: As for level 'backbone'.
        setting: Batch, size, dtype and memory format.
        repeats: Steps of which the median is taken, for 'host'.
        warmup: Steps before these, for 'host'.
    """
    if level == 'traffic':
        found = list(traffic(name, setting))
        tables, results = [_traffic_table(found), _costliest(found[0])], list(map(_traffic_dict, found))
    else:
        found = host_times(name, setting, repeats, warmup)
        tables, results = [_host_table(found), _operators_table(found)], list(map(asdict, found))
    shape = ' x '.join(map(str, (setting.batch, 3, *setting.size)))
    title = f'{level}: {name}, forward + backward, {shape}, {setting.dtype}, {setting.memory_format}'
    return Found(title, tables, results)


def _table(first: str, *columns: str) -> Table:
    table = Table(first)
    for name in columns:
        table.add_column(name, justify='right')
    return table


def _traffic_table(found: list[Traffic]) -> Table:
    table = _table('candidate', 'launches', 'forward', 'backward', 'GB', 'forward', 'backward', 'saved')
    for entry in found:
        passes = entry.forward, entry.backward
        launches, moved = [work.launches.total() for work in passes], [work.bytes.total() for work in passes]
        values = sum(launches), *launches, *(f'{count / 1e9:.3g}' for count in (sum(moved), *moved, entry.saved))
        table.add_row(entry.name, *map(str, values))
    return table


def _costliest(entry: Traffic) -> Table:
    table = _table(f'{entry.name}: most GB', 'launches', 'GB')
    for direction, work in _passes(entry):
        for name, count in work.bytes.most_common(COSTLIEST):
            table.add_row(f'{name}, {direction}', str(work.launches[name]), f'{count / 1e9:.3f}')
    return table


def _passes(entry: Traffic) -> Iterator[tuple[str, Work]]:
    yield 'forward', entry.forward
    yield 'backward', entry.backward


def _traffic_dict(entry: Traffic) -> dict:
    work = {direction: dict(launches=dict(w.launches), bytes=dict(w.bytes)) for direction, w in _passes(entry)}
    return dict(name=entry.name, **work, saved_bytes=entry.saved)


def _host_table(found: list[HostTime]) -> Table:
    table = _table('candidate', 'step', 'our operators', 'in a row')
    for entry in found:
        own = sum(operator.seconds for operator in entry.operators)
        warm = sum(operator.in_a_row for operator in entry.operators)
        table.add_row(entry.name, *(f'{1e3 * seconds:.4g}' for seconds in (entry.step, own, warm)))
    return table


def _operators_table(found: list[HostTime]) -> Table:
    table = _table('operator', 'calls', 'us each', 'ms', 'us in a row', 'ms')
    for operator in found[0].operators:
        times = operator.seconds, operator.in_a_row
        values = (f'{value:.3g}' for time in times for value in (1e6 * time / operator.calls, 1e3 * time))
        table.add_row(operator.name, str(operator.calls), *values)
    return table
