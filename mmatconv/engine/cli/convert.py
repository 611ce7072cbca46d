"""tools/model_converters: their options, and the table of what changed."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mmatconv.deploy.conversion import Conversion, check_target, report_rows, save, save_published
from mmatconv.deploy.names import NAMINGS, convert_names
from mmatconv.deploy.publishing import publishable
from mmatconv.engine.cli import report
from mmatconv.engine.cli.parser import Parser, add_trust, parse
from mmatconv.engine.launch.messages import print_once


def convert(doc: str, argv: list[str] | None = None) -> int:
    """tools/model_converters/convert_names.py; returns the exit status."""

    def main(progress: report.Progress) -> None:
        parser = _parser('convert_names.py', doc)
        parser.add_argument('target', metavar='DST', help='file to write, .pth or .safetensors; never overwritten')
        parser.add_argument('--to', choices=NAMINGS, required=True, help='whose names the tensors get')
        parser.add_argument('--arch', help='XXS to T4; inferred from the shapes if not given')
        args = parse(parser, argv)
        check_target(args.target)
        print_once(f'reading {args.source}')
        result = convert_names(args.source, args.to, args.arch)
        print_changes(result, [save(result, args.target)])

    return report.run(main)


def publish(
    doc: str, publish_run: Callable[[Path, str], tuple[Conversion, list[Path]]], argv: list[str] | None = None
) -> int:
    """tools/model_converters/publish_model.py; returns the exit status.

    Args:
        doc: Of the tool.
        publish_run: Called with the folder of a run and a config where the source is a folder.
        argv: Arguments. Default: None, those of the process.
    """

    def main(progress: report.Progress) -> None:
        parser = _parser('publish_model.py', doc)
        parser.add_argument(
            'target', metavar='DST', help='what the names of the files begin with; of a run, a config in this project'
        )
        args = parse(parser, argv)
        print_once(f'reading {args.source}')
        if Path(args.source).expanduser().is_dir():
            print_changes(*publish_run(Path(args.source).expanduser(), args.target))
            return
        result = publishable(args.source)
        print_changes(result, save_published(result, args.target))

    return report.run(main)


def print_changes(result: Conversion, targets: list[Path]) -> None:
    """Prints a table of what was renamed, kept and dropped, and of types and sizes."""
    table = Table()
    for title in ('', 'before', 'after'):
        table.add_column(title, overflow='fold')
    for row in report_rows(result, targets):
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 120, markup=False).print(table)


def _parser(name: str, doc: str) -> Parser:
    parser = Parser(name, description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', metavar='SRC', help='checkpoint to read, as data; nothing in it is executed')
    add_trust(parser)
    return parser
