"""Table of the newest evaluation of a work dir, plot of its training, contact sheet of its pictures.

Example:
    python tools/analysis_tools/report_run.py work_dirs/quickstart/mask-rcnn --plot curves.png
"""

import argparse
import sys
from pathlib import Path

# The project need not be installed to use its tools.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmatconv.analysis.run_report import METRICS, contact_sheet, plot_run, read_evaluation, read_run
from mmatconv.errors import UserError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('work_dir', help='work dir of a training that was evaluated into it')
    parser.add_argument('--plot', metavar='FILE.png', help='plot losses and metrics of the training')
    parser.add_argument('--pictures', metavar='FOLDER', help='folder that tools/test.py --show-dir wrote')
    parser.add_argument('--sheet', metavar='FILE.png', help='put the first twelve of --pictures on one sheet')
    args = parser.parse_args()
    try:
        report(args)
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


def report(args: argparse.Namespace) -> None:
    if args.plot:
        plot_run(read_run(args.work_dir), args.plot, Path(args.work_dir).name)
    if args.sheet:
        pictures = sorted(p for p in Path(args.pictures or '').rglob('*') if p.suffix.lower() in ('.jpg', '.png'))
        if not pictures:
            raise UserError(f"--pictures '{args.pictures}' holds no pictures; run tools/test.py --show-dir first.")
        contact_sheet(pictures[:12], args.sheet)
    print_table(read_evaluation(args.work_dir), args.work_dir)


def print_table(metrics: dict[str, float], title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    table.add_column('metric')
    table.add_column('value', justify='right')
    for name, label in METRICS.items():
        if name in metrics:
            table.add_row(label, f'{metrics[name]:.3f}')
    Console(width=None if sys.stdout.isatty() else 80).print(table)


if __name__ == '__main__':
    sys.exit(main())
