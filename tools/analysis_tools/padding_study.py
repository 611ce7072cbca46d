"""How much the padding of a batch changes kernels and detections of a trained detector, with and without mask_padding.

Example:
    python tools/analysis_tools/padding_study.py configs/quickstart/mask-rcnn_attnet-xxs_fpn_shapes.py \
        work_dirs/quickstart/mask-rcnn/epoch_2.pth data/coco/val2017 --pad 0.25
"""

import sys
from pathlib import Path

# The project need not be installed to use its tools.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmatconv.engine.cli import report
from mmatconv.engine.cli.config_file import OptionsAction, load_config
from mmatconv.engine.cli.parser import Parser
from mmatconv.errors import UserError


def main(progress: report.Progress) -> None:
    parser = Parser('padding_study.py', description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config of a detector whose backbone is one of mmatconv')
    parser.add_argument('checkpoint', help='its trained weights')
    parser.add_argument('images', help='a folder of images')
    parser.add_argument('--count', type=int, default=50, metavar='N', help='images, the first by name; default: 50')
    parser.add_argument(
        '--pad',
        type=float,
        default=0.25,
        metavar='SHARE',
        help='by how much the other image of the batch is higher and wider; default: 0.25',
    )
    parser.add_argument('--threshold', type=float, default=0.3, help='score of a detection that counts; default: 0.3')
    parser.add_argument('--cfg-options', nargs='+', action=OptionsAction, metavar='KEY=VALUE', help='as for training')
    args = parser.parse_args()
    if not 0 <= args.pad <= 4:
        raise UserError(f'--pad must lie from 0 to 4, but is {args.pad}')
    config = load_config(args.config, args.cfg_options)

    from mmatconv.analysis.padding_study import image_files

    files = image_files(args.images, args.count)
    show(config, args, files)


def show(config, args, files: list[Path]) -> None:
    """Run with and without the option, and print a row for each."""
    from rich.console import Console
    from rich.table import Table

    from mmatconv.analysis.padding_study import OVERLAP, SCORE, load_model, study
    from mmatconv.engine.console.bar import with_bar

    columns = ('mask_padding', 'images', 'kernels change by', 'detections alone', 'found again', 'score changes by')
    table = Table(*columns, title=f'padded by {args.pad:.0%} of height and width')
    for mask_padding in (False, True):
        model = load_model(config, args.checkpoint, mask_padding)
        changed = study(model, config, files, args.pad, args.threshold)
        changes = list(with_bar(changed, f'mask_padding={mask_padding}', len(files)))
        detections, found = (sum(getattr(c, key) for c in changes) for key in ('detections', 'found'))
        table.add_row(
            str(mask_padding),
            str(len(changes)),
            f'{sum(c.kernels for c in changes) / len(changes):.2g} (worst {max(c.kernels for c in changes):.2g})',
            str(detections),
            f'{found} ({found / detections:.1%})' if detections else '0',
            f'{max(c.score for c in changes):.2g}',
        )
    Console(width=140).print(table)
    print(
        'Kernels: norm of the difference over the norm, mean over the layers and images. Found again: same class, '
        f'overlap from {OVERLAP}, score within {SCORE}, of detections with a score from {args.threshold}. The score: '
        'its largest change of one found again.'
    )
    print('command: ' + ' '.join(['python', *sys.argv]))


if __name__ == '__main__':
    sys.exit(report.run(main))
