"""Curves and a table from what MMEngine logged in a work dir."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

from mmatconv.engine.console.metrics import METRICS, percent
from mmatconv.errors import UserError


@dataclass
class RunLog:
    """The scalars of a training.

    Attributes:
        iterations: At which the losses were logged.
        losses: By name, 'loss' the total, one value for each of ``iterations``.
        metrics: By logged name, (iteration, value) of every validation.
    """

    iterations: list[int] = field(default_factory=list)
    losses: dict[str, list[float]] = field(default_factory=dict)
    metrics: dict[str, list[tuple[int, float]]] = field(default_factory=dict)


def read_run(work_dir: str | Path) -> RunLog:
    """Read every ``vis_data/scalars.json`` of a work dir, a resumed training's several ones in order of time.

    Of an iteration logged twice, because a resumed training repeated it, the later entry counts.

    Raises:
        UserError: No training was logged there.
    """
    rows: dict[int, dict[str, float]] = {}
    validations: dict[tuple[str, int], float] = {}
    for path in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        last = 0
        for entry in _read_lines(path):
            if 'loss' in entry and 'iter' in entry:
                last = entry['iter']
                rows[last] = entry
            else:
                # An epoch-based loop logs validations under the epoch; the iterations before it tell where it was.
                validations.update({(name, last): entry[name] for name in METRICS if name in entry})
    if not rows:
        raise UserError(f"'{work_dir}' holds no log of a training; name the work dir of one.")
    log = RunLog(iterations=sorted(rows))
    names = [name for name in rows[log.iterations[0]] if name.startswith('loss') or '.loss' in name]
    log.losses = {name: [rows[i].get(name, float('nan')) for i in log.iterations] for name in names}
    for (name, iteration), value in sorted(validations.items(), key=lambda item: item[0][1]):
        if iteration:
            log.metrics.setdefault(name, []).append((iteration, value))
    return log


def plot_run(log: RunLog, path: str | Path, title: str) -> None:
    """Draw losses and metrics over the iterations into a picture file; its folder is made."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), constrained_layout=True)
    for name, values in log.losses.items():
        left.plot(log.iterations, values, label=name, linewidth=2.5 if name == 'loss' else 1)
    left.set(xlabel='iteration', ylabel='loss', yscale='log', title='training loss')
    for name, points in log.metrics.items():
        iterations, values = zip(*points)
        right.plot(iterations, [percent(name, value) for value in values], marker='o', label=METRICS[name])
    right.set(xlabel='iteration', ylabel='score in percent', title='validation')
    right.set_xlim(left=0)
    right.set_ylim(bottom=0)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.suptitle(title)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def read_evaluation(work_dir: str | Path) -> dict[str, float]:
    """The metrics of the newest evaluation by tools/test.py in a work dir, by logged name.

    A damaged file costs a warning, and the evaluation before it counts.

    Raises:
        UserError: There was no evaluation.
    """
    for path in sorted(Path(work_dir).glob('*/*.json'), reverse=True):
        if path.stem == path.parent.name and (entries := _read_lines(path)):
            return {name: value for name, value in entries[-1].items() if name in METRICS}
    raise UserError(f"'{work_dir}' holds no evaluation; run tools/test.py with --work-dir {work_dir} first.")


def _read_lines(path: Path) -> list[dict]:
    """The objects of a file of one JSON object a line; a damaged line, as a killed process leaves it, is left out."""
    entries = []
    for number, line in enumerate(path.read_text(encoding='utf-8', errors='replace').splitlines(), 1):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = None
        if isinstance(entry, dict):
            entries.append(entry)
        elif line.strip():
            print(f"warning: line {number} of '{path}' is damaged and is left out", file=sys.stderr)
    return entries
