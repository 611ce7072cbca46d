"""The list of all configs with the paper's results and ours, from the metafiles."""

import os
from pathlib import Path
from typing import Any

import yaml

from mmatconv.errors import UserError

HEADER = """# Configs

Every config of this package, from the `metafile.yml` files by `python tools/analysis_tools/model_zoo.py`. *Paper* is
what the authors print (arXiv 2510.20092) in the table named; *ours* is what this project measured. Train with
`tools/dist_train.sh configs/FOLDER/NAME.py GPUS`, evaluate with `tools/dist_test.sh`.
"""
COLUMNS = ('config', 'parameters', 'table', 'paper', 'ours')


def render(root: str | os.PathLike) -> str:
    """The list as Markdown.

    Args:
        root: Folder of ``model-index.yml``; the metafiles it imports are read.

    Returns:
        One table for each metafile.

    Raises:
        UserError: A file is missing.
    """
    root = Path(root)
    parts = [HEADER]
    for name in _read(root / 'model-index.yml')['Import']:
        metafile = _read(root / name)
        folder = Path(name).parent
        rows = [_row(model, folder.parent) for model in metafile['Models']]
        parts.append(f'## {folder.name}\n\n' + _table(rows))
    return '\n'.join(parts)


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise UserError(f"'{path}' does not exist; run this in a checkout of mmatconv.")
    return yaml.safe_load(path.read_text())


def _row(model: dict[str, Any], base: Path) -> tuple[str, ...]:
    paper = model.get('Paper Results', [])
    tables = sorted({str(result['Table']) for result in paper})
    parameters = model['Metadata'].get('Parameters')
    return (
        f'[{model["Name"]}]({Path(model["Config"]).relative_to(base)})',
        f'{parameters / 1e6:.1f} M' if parameters else '',
        ', '.join(tables),
        _metrics(paper),
        _metrics(model.get('Results', [])) or model.get('Status', ''),
    )


def _metrics(results: list[dict[str, Any]]) -> str:
    pairs = [f'{value} {name}' for result in results for name, value in result['Metrics'].items()]
    # Several tables may print the same figure of a model.
    return ', '.join(dict.fromkeys(pair for pair in pairs if 'AP50' not in pair and 'AP75' not in pair))


def _table(rows: list[tuple[str, ...]]) -> str:
    lines = [COLUMNS, tuple('---' for _ in COLUMNS), *rows]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines) + '\n'
