"""Checked tables as text, Markdown and JSON."""

import io
import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table as RichTable

from mmatconv.analysis.paper.figures import DIFFERS, MATCH, TRUNCATED, UNITS, UNPRINTED, Figure, Table

HEADINGS = {'params': 'params', 'flops': 'FLOPs', 'memory': 'memory', 'saved': 'saved'}
COMMAND = 'python tools/analysis_tools/paper_tables.py --format markdown > docs/paper_tables.md'
LEGEND = (
    "'counted' is in the paper's convention and order (kernel_proj over the whole map, then pooling), 'pooling first' "
    "in the order ATConv here computes in, with equal results. 'match' rounds to what is printed, 'match, truncated' "
    'does so only with the digits behind cut off. Accuracy, throughput and latency are not in these tables: they '
    'cannot be counted.'
)
Checked = Sequence[tuple[Table, Sequence[Figure]]]


def summary(checked: Checked) -> str:
    """How many figures were checked and how many reproduce."""
    verdicts = [figure.verdict for _, figures in checked for figure in figures]
    total = len(verdicts) - verdicts.count(UNPRINTED)
    matches, truncated = verdicts.count(MATCH) + verdicts.count(TRUNCATED), verdicts.count(TRUNCATED)
    return (
        f'{total} figures checked, {matches} match ({truncated} of them truncated), '
        f'{verdicts.count(DIFFERS)} do not reproduce'
    )


def as_text(checked: Checked, width: int = 132) -> str:
    """Tables drawn with lines, for a terminal.

    Args:
        checked: What to show.
        width: Columns of the terminal. Default: 132.
    """
    console = Console(width=width, file=io.StringIO(), highlight=False)
    for table, figures in checked:
        header, lines = _grid(figures)
        grid = RichTable()
        for index, name in enumerate(header):
            grid.add_column(name.replace(', ', '\n'), justify='left' if index == 0 else 'right', no_wrap=True)
        for line in lines:
            grid.add_row(*line)
        console.print(_title(table), grid, *(f'- {note}' for note in _notes(figures)), '', sep='\n')
    console.print(LEGEND, '', summary(checked), sep='\n', markup=False)
    return console.file.getvalue()


def as_markdown(checked: Checked) -> str:
    """A page with a section for each table."""
    parts = [f"# The paper's figures, counted\n\nWritten by `{COMMAND}`.\n\n{LEGEND}\n\n**{summary(checked)}**\n"]
    for table, figures in checked:
        header, lines = _grid(figures)
        rule = ['---', *['---:'] * (len(header) - 1)]
        rows = '\n'.join(f'| {" | ".join(line)} |' for line in [header, rule, *lines])
        notes = ''.join(f'\n- {note}' for note in _notes(figures))
        title, _, conditions = _title(table).partition(': ')
        parts.append(f'## {title}\n\n{conditions[0].upper()}{conditions[1:]}.\n\n{rows}\n' + (notes and f'{notes}\n'))
    return '\n'.join(parts)


def as_json(checked: Checked) -> str:
    """A list of figures, every field of :class:`Figure` and the unit, and the summary."""
    figures = [asdict(figure) | {'unit': UNITS[figure.quantity]} for _, figures in checked for figure in figures]
    return json.dumps({'figures': figures, 'summary': summary(checked)}, indent=1)


FORMATS = {'text': as_text, 'markdown': as_markdown, 'json': as_json}


def _title(table: Table) -> str:
    place = 'Section' if '-' in table.name else 'Table'
    return f'{place} {table.name}: {table.title}'


def _grid(figures: Sequence[Figure]) -> tuple[list[str], list[list[str]]]:
    """Header and lines of cells, a line for each model."""
    quantities = [quantity for quantity in UNITS if any(figure.quantity == quantity for figure in figures)]
    ordered = [quantity for quantity in quantities if _has_order(figures, quantity)]
    header = ['model']
    for quantity in quantities:
        name = HEADINGS[quantity]
        header += [f'{name} ({UNITS[quantity]}), paper', 'counted', 'verdict']
        if quantity in ordered:
            header.append('pooling first')
    by_model: dict[str, dict[str, Figure]] = {}
    for figure in figures:
        by_model.setdefault(figure.model, {})[figure.quantity] = figure
    lines = []
    for model, found in by_model.items():
        line = [model]
        for quantity in quantities:
            line += _cells(found.get(quantity), quantity in ordered)
        lines.append(line)
    return header, lines


def _has_order(figures: Sequence[Figure], quantity: str) -> bool:
    return any(figure.quantity == quantity and figure.pooling_first is not None for figure in figures)


def _cells(figure: Figure | None, ordered: bool) -> list[str]:
    if figure is None:
        return [''] * (4 if ordered else 3)
    digits = 2 if figure.paper is None else len(figure.paper.partition('.')[2]) + 2
    verdict = figure.verdict
    if verdict == DIFFERS:
        verdict = f'differs by {figure.difference:+.{digits - 1}f}'
    elif verdict == UNPRINTED:
        verdict = ''
    cells = [figure.paper or '', f'{figure.counted:.{digits}f}', verdict]
    if ordered:
        cells.append('' if figure.pooling_first is None else f'{figure.pooling_first:.{digits}f}')
    return cells


def _notes(figures: Sequence[Figure]) -> list[str]:
    """The reasons, models of the same reason together."""
    models: dict[tuple[str, str], list[str]] = {}
    for figure in figures:
        if figure.reason:
            models.setdefault((figure.quantity, figure.reason), []).append(figure.model)
    return [f'{", ".join(names)}, {HEADINGS[quantity]}: {reason}.' for (quantity, reason), names in models.items()]
