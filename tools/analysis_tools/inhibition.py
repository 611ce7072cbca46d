"""Contrast and rank of every ATConv's output with and without modulation, and the kernels it generates, on images.

Example:
    python tools/analysis_tools/inhibition.py photos --config CONFIG --checkpoint CHECKPOINT --out seen
"""

import sys
from pathlib import Path

# The project need not be installed to use its tools.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmatconv.analysis.mechanisms.options import add_common, load, shown
from mmatconv.datasets.fresh_folder import fresh_folder
from mmatconv.engine.cli import report
from mmatconv.engine.cli.parser import Parser
from mmatconv.errors import UserError


def main(progress: report.Progress) -> None:
    parser = Parser('inhibition.py', description=__doc__.splitlines()[0])
    add_common(parser, 'inhibition')
    parser.add_argument(
        '--sigma', type=float, default=1.0, help='of the Gaussian blur, in pixels of the map; default: 1'
    )
    args = parser.parse_args()
    if not 0 < args.sigma <= 20:
        raise UserError(f'--sigma {args.sigma} is not a width of a blur; give a number above 0 and up to 20.')

    from rich.console import Console
    from rich.table import Table

    from mmatconv.analysis.build_model import quiet
    from mmatconv.analysis.demo.inputs import Images
    from mmatconv.analysis.mechanisms.run import write_inhibition

    images = Images(args.images)
    with quiet():
        model = load(args, progress)
    options = dict(size=args.size, dim=args.dim, sigma=args.sigma)
    with quiet(), fresh_folder(args.out) as folder:
        rows = write_inhibition(images, folder, model, options, shown)
    table = Table('stage.block', 'C', 'CSC', 'without', 'CER', 'without', title=f'mean of {len(images)} images')
    for row in rows:
        figures = (row[key] for key in ('csc', 'csc_without', 'cer', 'cer_without'))
        table.add_row(row['layer'], f'{row["channels"]:.0f}', *(f'{figure:.4f}' for figure in figures))
    Console(width=120).print(table)
    print(f"'{args.out}' is written: inhibition.png, the kernels of each image, and inhibition.json")
    print('command: ' + ' '.join(['python', *sys.argv]))


if __name__ == '__main__':
    sys.exit(report.run(main))
