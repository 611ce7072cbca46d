"""The list of all configs with the paper's results and ours, and the quickstart's results, from the metafiles."""

import os
import re
from pathlib import Path
from typing import Any

import yaml

from mmatconv.errors import UserError

HEADER = """# Configs

Every config of this package, from the `metafile.yml` files by `python tools/analysis_tools/model_zoo.py`. *Paper* is
what the authors print (arXiv 2510.20092) in the table named; *ours* is what this project measured. Train with
`tools/dist_train.sh configs/FOLDER/NAME.py GPUS`, evaluate with `tools/dist_test.sh`. Where there is a *card*, weights
come with the package, and `python tools/image_demo.py IMAGES NAME` uses them.
"""
# Where the cards of published models are, in the project.
CARDS = 'weights'
COLUMNS = ('config', 'parameters', 'table', 'paper', 'ours')
# Between these marks in README.md and docs/*.md stands what the metafile of the quickstart says.
QUICKSTART = 'configs/quickstart/metafile.yml'
BLOCK = re.compile(r'(<!-- quickstart -->\n).*?(<!-- /quickstart -->)', re.DOTALL)


def render_pages(root: Path) -> dict[Path, str]:
    """What configs/README.md and every page with a marked block should hold, by file.

    Raises:
        UserError: A metafile is missing.
    """
    pages = {root / 'configs' / 'README.md': render(root)}
    for path in (root / 'README.md', *sorted((root / 'docs').glob('*.md'))):
        text = path.read_text() if path.exists() else ''
        if BLOCK.search(text):
            pages[path] = BLOCK.sub(lambda block: block[1] + _sentence(root) + block[2], text)
    return pages


def quickstart_results(root: Path) -> dict[str, float]:
    """The metrics of the quickstart's models, by name: box AP, mask AP, AP50 of both, mIoU.

    Raises:
        UserError: Its metafile is missing.
    """
    results = [result for model in _read(root / QUICKSTART)['Models'] for result in model['Results']]
    return {name: value for result in results for name, value in result['Metrics'].items()}


def _sentence(root: Path) -> str:
    results = quickstart_results(root)
    return (
        f'Mask R-CNN with AttNet-XXS: {results["box AP"]} box AP (AP50 {results["box AP50"]}), '
        f'{results["mask AP"]} mask AP (AP50 {results["mask AP50"]}).\n'
        f'SemanticFPN with AttNet-XXS: {results["mIoU"]} mIoU.\n'
    )


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
    ours = _metrics(model.get('Results', [])) or model.get('Status', '')
    if 'Weights' in model:
        ours += f' ([card](../{CARDS}/{model["Name"]}.md))'
    return (
        f'[{model["Name"]}]({Path(model["Config"]).relative_to(base)})',
        f'{parameters / 1e6:.1f} M' if parameters else '',
        ', '.join(tables),
        _metrics(paper),
        ours,
    )


def _metrics(results: list[dict[str, Any]]) -> str:
    pairs = [f'{value} {name}' for result in results for name, value in result['Metrics'].items()]
    # Several tables may print the same figure of a model.
    return ', '.join(dict.fromkeys(pair for pair in pairs if 'AP50' not in pair and 'AP75' not in pair))


def _table(rows: list[tuple[str, ...]]) -> str:
    lines = [COLUMNS, tuple('---' for _ in COLUMNS), *rows]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines) + '\n'
