"""Parameters and FLOPs of a config's detector, segmentor or classifier, in all and by module.

Example:
    python tools/analysis_tools/get_flops.py configs/mask_rcnn/mask-rcnn_attnet-t2_fpn_1x_coco.py --shape 800 1280
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

# The project need not be installed to use its tools.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmatconv.engine.cli import report
from mmatconv.engine.cli.config_file import OptionsAction, load_config
from mmatconv.engine.cli.parser import Parser
from mmatconv.errors import UserError

if TYPE_CHECKING:
    from mmatconv.analysis.complexity.counter import Complexity


def main(progress: report.Progress) -> None:
    parser = Parser('get_flops.py', description=__doc__.splitlines()[0])
    parser.add_argument('config', help='path of the config, from here or from the project folder')
    parser.add_argument(
        '--shape',
        nargs='+',
        metavar='N',
        help='height and width of the image, or one number for a square; default: 800 1280 for detection, 512 2048 '
        'for segmentation, 224 224 for classification',
    )
    parser.add_argument(
        '--paper-order',
        action='store_true',
        help='count ATConv as the paper does, kernel_proj over the whole map and then pooling',
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=OptionsAction, metavar='KEY=VALUE', help='settings to change in the config'
    )
    args = parser.parse_args()
    size = None if args.shape is None else read_size(args.shape)
    config = load_config(args.config, args.cfg_options)

    from mmatconv.analysis.build_model import quiet
    from mmatconv.analysis.complexity.config_complexity import count_config
    from mmatconv.analysis.complexity.counted_forward import BOX_ROIS, MASK_ROIS, is_two_stage

    with quiet():
        model, size, complexity = count_config(config, size, args.paper_order)
    print_table(complexity, f'{args.config} at {size[0]} x {size[1]}')
    order = 'in the order of the paper' if args.paper_order else 'pooling first, as it computes here'
    print(
        'One multiply-add is one FLOP; FLOPs hold 5 more for an element of a LayerNorm, 2 of a BatchNorm, 4 of '
        f'bilinear and 1 of nearest resampling, as fvcore counts. ATConv is counted {order}.'
    )
    if is_two_stage(model):
        print(f'RoI heads are counted on {BOX_ROIS} RoIs for boxes and {MASK_ROIS} for masks.')
    if complexity.uncounted:
        names = ', '.join(f'{name} ({times} times)' for name, times in complexity.uncounted.items())
        print(f'Not counted, as the counter has no rule for them: {names}.')


def read_size(values: list[str]) -> tuple[int, int]:
    """Height and width from one or two numbers.

    Raises:
        UserError: It is something else.
    """
    if len(values) > 2 or not all(value.isdecimal() and int(value) > 0 for value in values):
        raise UserError(f"--shape '{' '.join(values)}' is not a size; give height and width as positive whole numbers")
    return int(values[0]), int(values[-1])


def print_table(complexity: 'Complexity', title: str) -> None:
    """Modules of the first level, those below a container that runs nothing itself, and the total."""
    from rich.console import Console
    from rich.table import Table

    table = Table('module')
    for name in ('params (M)', 'FLOPs (G)', 'multiply-adds (G)'):
        table.add_column(name, justify='right')
    for name, counts in complexity.modules.items():
        depth = name.count('.') - name.startswith('roi_head.')
        if name and depth == 0 and any(counts):
            table.add_row(name, *cells(counts))
    table.add_section()
    table.add_row('total', *cells((complexity.params, complexity.flops, complexity.macs)))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)
    console.print(title, table, sep='\n', markup=False)


def cells(counts: tuple[int, int, int]) -> list[str]:
    """Parameters, FLOPs and multiply-adds as they are printed."""
    params, flops, macs = counts
    return [f'{params / 1e6:.3f}', f'{flops / 1e9:.3f}', f'{macs / 1e9:.3f}']


if __name__ == '__main__':
    sys.exit(report.run(main))
