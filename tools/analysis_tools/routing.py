"""Draws what influences what: adaptive routing and suppression of a trained token mixer, and of layers beside it.

Example:
    python tools/analysis_tools/routing.py photos --out seen
    python tools/analysis_tools/routing.py photo.jpg --config configs/quickstart/mask-rcnn_attnet-xxs_fpn_shapes.py \
        --checkpoint work_dirs/quickstart/mask-rcnn/epoch_4.pth --place 2.1 --layers 'DWConv 7x7'
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
    parser = Parser('routing.py', description=__doc__.splitlines()[0])
    add_common(parser, 'routing')
    parser.add_argument('--place', metavar='STAGE.BLOCK', help='which token mixer; default: the last of stage 2')
    parser.add_argument(
        '--layers',
        metavar='NAME,NAME',
        help="untrained layers beside it, 'none' for none; default: all without a config, 'none' with one",
    )
    parser.add_argument('--positions', type=int, default=4, metavar='N', help='N x N positions; default: 4')
    parser.add_argument(
        '--radius', type=float, default=0.25, help='far is beyond this share of the shorter side; default: 0.25'
    )
    args = parser.parse_args()
    if args.positions < 1 or not 0 < args.radius < 1:
        raise UserError(
            f'--positions {args.positions} must be 1 or more, and --radius {args.radius} between 0 and 1; mend them.'
        )

    from rich.console import Console
    from rich.table import Table

    from mmatconv.analysis.build_model import quiet
    from mmatconv.analysis.demo.inputs import Images
    from mmatconv.analysis.mechanisms.layers import BARE, token_mixers
    from mmatconv.analysis.mechanisms.run import write_routing

    images = Images(args.images)
    with quiet():
        model = load(args, progress)
    place = None
    if model is not None:
        place = _place(args.place) or max(place for place in token_mixers(model.model) if place[0] <= 2)
    names = args.layers or ('none' if model else ','.join(BARE))
    names = [] if names == 'none' else [name.strip() for name in names.split(',')]
    if model is None and not names:
        raise UserError('there is nothing to look at; give --config and --checkpoint, or name --layers.')
    options = dict(size=args.size, dim=args.dim, positions=args.positions, radius=args.radius)
    with quiet(), fresh_folder(args.out) as folder:
        rows = write_routing(images, folder, model, place, names, options, shown)
    table = Table('layer', 'FAR', 'arrows differ by (pixels)', 'suppression', title=f'mean of {len(images)} images')
    for layer in dict.fromkeys(row['layer'] for row in rows):
        of_layer = [row for row in rows if row['layer'] == layer]
        means = [sum(row[key] for row in of_layer) / len(of_layer) for key in ('far', 'diversity', 'suppression')]
        table.add_row(layer, *(f'{mean:.3g}' for mean in means))
    Console(width=120).print(table)
    print(f"'{args.out}' is written: a picture for each image, and routing.json")
    print('command: ' + ' '.join(['python', *sys.argv]))


def _place(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    stage, _, block = text.partition('.')
    if not (stage.isdigit() and block.isdigit()):
        raise UserError(f"--place {text!r} is not a stage and a block; write them as in '2.1'.")
    return int(stage), int(block)


if __name__ == '__main__':
    sys.exit(report.run(main))
