"""Makes a page for a browser: predictions beside the ground truth, the worst first, with figures of each class.

Example:
    python tools/test.py CONFIG CHECKPOINT --out work_dirs/mine/predictions.pkl
    python tools/analysis_tools/browse_predictions.py work_dirs/mine
"""

import sys
from functools import partial
from pathlib import Path

# The project need not be installed to use its tools.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmatconv.datasets.fresh_folder import fresh_folder
from mmatconv.engine.cli import report
from mmatconv.engine.cli.config_file import OptionsAction, load_config
from mmatconv.engine.cli.parser import Parser, add_out
from mmatconv.errors import UserError


def main(progress: report.Progress) -> None:
    parser = Parser('browse_predictions.py', description=__doc__.splitlines()[0])
    parser.add_argument('results', type=Path, help='what tools/test.py --out wrote, or a work dir with such a file')
    parser.add_argument('--config', help='config of the test; default: the newest one beside the predictions')
    add_out(parser, None, 'browse beside the predictions')
    parser.add_argument(
        '--count', type=int, default=200, metavar='N', help='images on the page, the worst and the best; default: 200'
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=OptionsAction, metavar='KEY=VALUE', help='settings to change in the config'
    )
    args = parser.parse_args()
    if args.count < 1:
        raise UserError(f'--count {args.count} is not a number of images; give 1 or more.')

    from mmatconv.analysis.browse.page import write_page
    from mmatconv.analysis.browse.results import find_files
    from mmatconv.analysis.build_model import quiet
    from mmatconv.engine.console.bar import with_bar

    predictions, config_file = find_files(args.results, args.config)
    config = load_config(str(config_file), args.cfg_options)
    progress.config = config
    out = args.out or predictions.parent / 'browse'
    with quiet(), fresh_folder(out) as folder:
        metric = write_page(predictions, config, folder, args.count, partial(with_bar, title='images'))
    print(f"{metric}\n'{out / 'index.html'}' is written: open it in a browser")


if __name__ == '__main__':
    sys.exit(report.run(main))
