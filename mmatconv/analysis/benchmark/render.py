"""Outcomes as tables and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict

from rich.table import Table

from mmatconv.analysis.benchmark.linear_cost import Growth
from mmatconv.analysis.benchmark.measure import Measured, Outcome

LEGEND = (
    'median, p10 and p90 in ms; speed: times as fast as the reference (bold); peak: MiB held and allocated at the '
    'worst moment of a call; memory: peak as a share of the reference; error: largest difference from the candidate '
    'that must be equal, as a share of its root mean square.'
)
OPERATOR_LEGEND = (
    'GB/s: bytes of the floor (2 passes over the map forward, 3 backward) for each second; share: of the bandwidth of '
    'a copy of the same map in the same run.'
)
MIB = 2**20


def table(outcome: Outcome) -> Table:
    """One case."""
    has_floor = any(entry.floor is not None for entry in outcome.measured)
    result = Table('candidate')
    for name in ('median', 'p10', 'p90', 'speed', 'peak', 'memory', 'error', *(('GB/s', 'share') * has_floor)):
        result.add_column(name, justify='right')
    for entry in outcome.measured:
        style = 'bold' if entry.name == outcome.case.reference else None
        result.add_row(entry.name, *cells(outcome, entry, has_floor), style=style)
    for name in outcome.failed:
        result.add_row(name, 'out of memory')
    return result


def cells(outcome: Outcome, entry: Measured, has_floor: bool) -> list[str]:
    """The columns behind the name."""
    times = entry.times
    found = [f'{1e3 * value:.4g}' for value in (times.median, times.p10, times.p90)]
    found += [_optional(outcome.speed(entry), '.2f'), f'{entry.peak / MIB:.4g}']
    found += [_optional(outcome.memory(entry), '.2f'), _optional(entry.error, '.1e')]
    if has_floor:
        bandwidth = None if entry.bandwidth is None else entry.bandwidth / 1e9
        found += [_optional(bandwidth, '.4g'), _optional(outcome.share(entry), '.0%')]
    return found


def growth_table(growths: Sequence[Growth]) -> Table:
    """Time per pixel at both sizes."""
    result = Table('case', 'candidate')
    for name in ('ns per pixel', 'at 4 times', 'ratio', 'within 10 %'):
        result.add_column(name, justify='right')
    for growth in growths:
        values = f'{1e9 * growth.small:.4g}', f'{1e9 * growth.large:.4g}', f'{growth.ratio:.3f}'
        result.add_row(growth.title, growth.name, *values, 'yes' if growth.linear else 'no')
    return result


def as_dict(outcome: Outcome) -> dict:
    """One case for JSON; times in seconds, memory in bytes."""
    case = outcome.case
    return dict(
        level=case.level,
        model=case.model,
        title=case.title,
        **asdict(case.setting),
        reference=case.reference,
        left_out=list(case.left_out),
        out_of_memory=outcome.failed,
        results=[
            dict(
                name=entry.name,
                median=entry.times.median,
                p10=entry.times.p10,
                p90=entry.times.p90,
                readings=list(entry.times.readings),
                speed=outcome.speed(entry),
                held_bytes=entry.held,
                peak_bytes=entry.peak,
                memory=outcome.memory(entry),
                error=entry.error,
                bandwidth=entry.bandwidth,
                share_of_copy=outcome.share(entry),
            )
            for entry in outcome.measured
        ],
    )


def _optional(value: float | None, form: str) -> str:
    return '' if value is None else format(value, form)
