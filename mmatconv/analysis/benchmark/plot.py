"""Latency and memory over resolution, as figure 4 (b) and (c) of the paper draws them."""

from collections.abc import Sequence
from dataclasses import replace
from math import sqrt
from pathlib import Path

from matplotlib.figure import Figure

from mmatconv.analysis.benchmark.measure import Outcome

MARKERS = 'osD^vPX*<>'
MIB = 2**20


def plot(outcomes: Sequence[Outcome], path: str | Path, footer: str) -> None:
    """Draw one row of two panels, latency and peak memory, for all cases that differ in size alone.

    Args:
        outcomes: Measured cases.
        path: A .png.
        footer: What it ran on.
    """
    rows: dict[tuple, list[Outcome]] = {}
    for outcome in outcomes:
        key = outcome.case.level, outcome.case.model, replace(outcome.case.setting, size=(0, 0))
        rows.setdefault(key, []).append(outcome)
    figure = Figure(figsize=(11, 4.4 * len(rows)), layout='constrained')
    panels = figure.subplots(len(rows), 2, squeeze=False)
    for group, (latency, memory) in zip(rows.values(), panels):
        group.sort(key=lambda outcome: outcome.case.setting.pixels)
        names = dict.fromkeys(entry.name for outcome in group for entry in outcome.measured)
        for name, marker in zip(names, MARKERS * len(names)):
            found = [(outcome, outcome.find(name)) for outcome in group if outcome.find(name)]
            sides = [sqrt(outcome.case.setting.pixels) for outcome, _ in found]
            style = dict(marker=marker, label=name, linewidth=2.5 if name == 'ours' else 1.2)
            line = latency.plot(sides, [1e3 * entry.times.median for _, entry in found], **style)
            low, high = ([1e3 * getattr(entry.times, end) for _, entry in found] for end in ('p10', 'p90'))
            latency.fill_between(sides, low, high, color=line[0].get_color(), alpha=0.15)
            memory.plot(sides, [entry.peak / MIB for _, entry in found], **style)
        ticks = sorted({sqrt(outcome.case.setting.pixels) for outcome in group})
        for panel, label in ((latency, 'median latency (ms)'), (memory, 'peak memory (MiB)')):
            panel.set(xscale='log', yscale='log', xlabel='square root of the pixels', ylabel=label)
            panel.set_xticks(ticks, [f'{tick:.0f}' for tick in ticks])
            panel.minorticks_off()
            panel.grid(alpha=0.3)
        setting = group[0].case.setting
        subtitle = f'{setting.mode}, batch {setting.batch}, {setting.dtype}, {setting.memory_format}'
        latency.set_title(f'{group[0].case.model}: {subtitle}', fontsize=10, loc='left')
        memory.legend(fontsize=8)
    figure.text(0.005, -0.02, footer, fontsize=7, va='top')
    figure.savefig(path, dpi=130, bbox_inches='tight')
