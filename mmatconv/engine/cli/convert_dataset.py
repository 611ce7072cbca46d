"""tools/dataset_tools/convert_*.py: their options and progress."""

import argparse
import sys
from importlib import import_module
from pathlib import Path

from mmatconv.engine.cli import report
from mmatconv.engine.cli.parser import Parser


def convert_dataset(name: str, doc: str, argv: list[str] | None = None) -> int:
    """A tool that writes a data set with ``mmatconv.datasets.NAME.convert_NAME``; returns the exit status."""

    def main(progress: report.Progress) -> None:
        parser = Parser(f'convert_{name}.py', description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument('source', type=Path, help='folder as it was downloaded')
        parser.add_argument('target', type=Path, help='folder to write; must not exist or be empty')
        args = parser.parse_args(argv)
        convert = getattr(import_module(f'mmatconv.datasets.{name}'), f'convert_{name}')
        counts = convert(args.source, args.target, show_progress)
        text = ', '.join(f'{count} {split}' for split, count in counts.items())
        print(f"'{args.target}' is written: {text} images")

    return report.run(main)


def show_progress(split: str, done: int, total: int) -> None:
    """A bar on a terminal, redrawn in place; one line for each split where the output goes to a file or a pipe."""
    if sys.stdout.isatty():
        filled = 30 * done // total
        end = '\n' if done == total else ''
        print(f'\r{split:>5} [{"#" * filled}{"." * (30 - filled)}] {done}/{total}', end=end, flush=True)
    elif done == total:
        print(f'{split}: {total} images', flush=True)
