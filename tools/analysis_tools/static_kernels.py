"""The scores of a trained model with its own kernels, and with every ATConv's kernels replaced by their mean.

Example:
    python tools/analysis_tools/static_kernels.py CONFIG CHECKPOINT --split val
"""

import sys
from pathlib import Path

# The project need not be installed to use its tools.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmatconv.engine.cli import report
from mmatconv.engine.cli.config_file import OptionsAction, load_config
from mmatconv.engine.cli.parser import Parser, add_trust, parse


def main(progress: report.Progress) -> None:
    parser = Parser('static_kernels.py', description=__doc__.splitlines()[0])
    parser.add_argument('config', help='of a detector, a segmentor or a classifier with ATConv')
    parser.add_argument('checkpoint', help='its trained weights')
    parser.add_argument('--split', choices=('val', 'test'), default='val', help='images to evaluate on; default: val')
    parser.add_argument(
        '--average',
        choices=('train',),
        help='average over the training images, as they are augmented; default: --split',
    )
    parser.add_argument('--cfg-options', nargs='+', action=OptionsAction, metavar='KEY=VALUE', help='as for training')
    add_trust(parser)
    args = parse(parser, None)
    progress.config = config = load_config(args.config, args.cfg_options)

    from rich.console import Console
    from rich.table import Table

    from mmatconv.analysis.mechanisms.static_kernels import compare_checkpoint
    from mmatconv.engine.console import console
    from mmatconv.engine.console.metrics import METRICS, number

    with console.Console() as quiet:
        own, held, layers = compare_checkpoint(config, args.checkpoint, args.split, quiet, args.average)
    scores = Table(f'{args.split} split', 'own kernels', 'mean kernels')
    # Where papers have no name for any, all of them as they are logged.
    for name in [name for name in METRICS if name in own] or sorted(own.keys() - {'time', 'data_time'}):
        # A detector that finds nothing has no scores.
        cells = (number(name, each[name], decimals=2) if name in each else '-' for each in (own, held))
        scores.add_row(METRICS.get(name, name), *cells)
    kernels = Table('ATConv', 'norm', 'over images', 'over channels', 'shapes', 'mean |difference_control|')
    for layer in layers:
        shares = f'{layer.over_images:.1%}', f'{layer.over_channels:.1%}'
        kernels.add_row(layer.name, f'{layer.norm:.3g}', *shares, f'{layer.shapes:.1f}', f'{layer.control:.3f}')
    Console(width=120).print(scores, kernels)
    images = 'the training images as they are augmented' if args.average else 'all images of the split'
    print(
        f'Mean kernels: one for each layer and channel, the mean over {images}. Norm of a kernel, and '
        'how far kernels lie from their mean over the images, and those means from theirs over the channels, as '
        'shares of the norm; root mean squares. Shapes: how many kernels those of all channels are mixtures of, the '
        'effective rank of the means. lambda of DKM is the sigmoid of difference_control.'
    )
    print('command: ' + ' '.join(['python', *sys.argv]))


if __name__ == '__main__':
    sys.exit(report.run(main))
