"""A study as tables in Markdown and as a figure."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmatconv.analysis.study.collect import costs_in
from mmatconv.analysis.study.costs import Cost
from mmatconv.analysis.study.protocol import Group, Study
from mmatconv.analysis.study.results import Results, spread, verdict
from mmatconv.analysis.study.schedule import finished, total
from mmatconv.engine.console.metrics import METRICS, percent
from mmatconv.errors import UserError

MISSING = 'not run yet'


def scores(results: Results, name: str, metric: str) -> list[float]:
    """A competitor's scores on the test split in percent, those of the seeds that are there."""
    return [percent(metric, value) for value in results.tested(name, metric)]


def markdown(study: Study, results: Results, content: Mapping[str, Any]) -> str:
    """The tables of all groups, and below them what they rest on."""
    costs = costs_in(content)
    parts = [f'![{study.title}: score on the test split against time of an image](images/study_{study.name}.png)']
    parts += [_table(study, results, costs, group) for group in study.groups]
    timed = content['timed_on']
    on = ', '.join(f'{key} {value}' for key, value in timed.items()) if timed else 'not timed'
    software = ', '.join(f'{key} {value}' for key, value in content['versions'].items())
    hours = sum(result.seconds for result in results.by_name.values()) / 3600
    starred = ''
    if edges := _edges(study):
        values = ', '.join(f'{rate:g}' for rate in edges)
        starred = f'* marks a learning rate at an end of the range ({values}): another one might do better. '
    parts.append(
        f'{finished(study, results)} of {total(study)} trainings are done ({hours:.1f} hours in all). '
        f'Scores in percent: mean ± standard deviation of {len(study.seeds)} seeds on the test split. '
        f"'Against' is Welch's test at 5 percent; it stays empty where a seed is missing. {starred}"
        f'Parameters and multiply-adds (at {study.image_size[0]} x {study.image_size[1]}) are of the whole model. '
        f'Times: {on}; {software}.'
    )
    parts.append(f'```bash\n{content["command"]}\n```')
    return '\n\n'.join(parts)


def _table(study: Study, results: Results, costs: Mapping[str, Cost], group: Group) -> str:
    labels = [METRICS[metric] for metric in study.metrics]
    heads = ['', 'learning rate', *labels, f'against {group.reference}', 'parameters, M', 'multiply-adds, G']
    heads += ['training step, ms', 'image, ms']
    lines = [f'**{group.title}**', '', _row(heads), _row(['---'] + ['---:'] * (len(heads) - 1))]
    reference = scores(results, group.reference, study.metrics[0])
    for name in group.members:
        rate = results.chosen(name)
        edge = '*' if rate in _edges(study) else ''
        cells = [name, '' if rate is None else f'{rate:g}{edge}']
        cells += [_score(scores(results, name, metric), len(study.seeds)) for metric in study.metrics]
        own = scores(results, name, study.metrics[0])
        cells.append('' if name == group.reference else verdict(own, reference, len(study.seeds)))
        cost = costs.get(name)
        cells += [f'{cost.params / 1e6:.2f}', f'{cost.macs / 1e9:.3f}'] if cost else ['', '']
        cells += [f'{1e3 * cost.step:.0f}', f'{1e3 * cost.image:.1f}'] if cost else ['', '']
        lines.append(_row(cells))
    return '\n'.join(lines)


def _edges(study: Study) -> Sequence[float]:
    """The learning rates beyond which nothing was tried, where there was a choice."""
    rates = study.learning_rates
    return (rates[0], rates[-1]) if len(rates) > 1 else ()


def _row(cells: Sequence[str]) -> str:
    return '| ' + ' | '.join(cells) + ' |'


def _score(values: Sequence[float], seeds: int) -> str:
    if not values:
        return MISSING
    mean = f'{statistics.fmean(values):.1f}'
    if len(values) < seeds:
        return f'{mean} ({len(values)} of {seeds} seeds)'
    return f'{mean} ± {spread(list(values)):.1f}'


def plot(study: Study, results: Results, content: Mapping[str, Any], path: Path) -> None:
    """Draw the score on the test split against the time of an image, a panel for each group that has any."""
    from matplotlib.figure import Figure

    costs, metric = costs_in(content), study.metrics[0]
    points: dict[Group, list[tuple[str, float, list[float]]]] = {}
    for group in study.groups:
        tested = [(name, scores(results, name, metric)) for name in group.members if name in costs]
        points[group] = [(name, 1e3 * costs[name].image, values) for name, values in tested if values]
    shown = [group for group in study.groups if points[group]] or list(study.groups[:1])
    rows = math.ceil(len(shown) / 2)
    figure = Figure(figsize=(6.4 * min(len(shown), 2), 4.6 * rows), layout='constrained')
    panels = figure.subplots(rows, min(len(shown), 2), squeeze=False).flat
    for group, axes in zip(shown, panels):
        middle = statistics.fmean(time for _, time, _ in points[group]) if points[group] else 0
        for name, time, values in points[group]:
            color = 'C3' if name == group.reference else 'C0'
            axes.errorbar(time, statistics.fmean(values), yerr=spread(values), color=color, marker='o', capsize=3)
            # Towards the middle, where there is room.
            side = dict(xytext=(6, 4), ha='left') if time <= middle else dict(xytext=(-6, 4), ha='right')
            axes.annotate(name, (time, statistics.fmean(values)), textcoords='offset points', fontsize=8, **side)
        axes.set(xlabel='time of an image (ms)', ylabel=f'{METRICS[metric]} on the test split')
        axes.set_title(group.title, fontsize=9)
        axes.margins(x=0.25, y=0.15)
        axes.grid(alpha=0.3)
    for axes in list(panels):
        axes.set_visible(False)
    figure.suptitle(study.title, fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def check_page(page: Path, name: str) -> tuple[str, int, int]:
    """The content of a page, and from where to where a study stands in it.

    Raises:
        UserError: The page cannot be read, or has no marks for the study.
    """
    begin, end = f'<!-- study {name} -->\n', f'<!-- end of study {name} -->'
    try:
        content = page.read_text(encoding='utf-8')
    except OSError as error:
        raise UserError(f"--doc '{page}' cannot be read ({error.strerror}); name a page that exists.") from error
    start = content.find(begin) + len(begin)
    stop = content.find(end, start)
    if begin not in content or stop < 0:
        raise UserError(f"--doc '{page}' has no place for the study; put '{begin.strip()}' and '{end}' where it goes.")
    return content, start, stop


def write_section(page: Path, name: str, text: str) -> None:
    """Replace what stands between the marks of a study in a page; raises what :func:`check_page` raises."""
    content, start, stop = check_page(page, name)
    page.write_text(f'{content[:start]}{text}\n{content[stop:]}', encoding='utf-8')
