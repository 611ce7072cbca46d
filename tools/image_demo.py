"""Draws what a detector, segmentor or classifier predicts on images of your own, and lists it in predictions.json.

Example:
    python tools/image_demo.py street.jpg configs/mask_rcnn/mask-rcnn_attnet-t2_fpn_1x_coco.py epoch_12.pth --out seen
    python tools/image_demo.py street.jpg NAME    # one of those in weights/
"""

import sys
from functools import partial
from pathlib import Path

# The project need not be installed to use its tools.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmatconv.datasets.fresh_folder import fresh_folder
from mmatconv.engine.cli import report
from mmatconv.engine.cli.config_file import OptionsAction, load_config
from mmatconv.engine.cli.parser import Parser, add_out, add_trust, parse
from mmatconv.engine.hooks.show_dir import SCORE_THRESHOLD
from mmatconv.errors import UserError


def main(progress: report.Progress) -> None:
    parser = Parser('image_demo.py', description=__doc__.splitlines()[0])
    parser.add_argument('images', type=Path, help='an image, a folder of images, or a video')
    parser.add_argument(
        'config',
        help="config: its path from here or from the project folder, 'mmatconv::PATH', or a name in configs/README.md",
    )
    parser.add_argument(
        'checkpoint', nargs='?', help='path or URL of the checkpoint; default: the weights published with the config'
    )
    add_out(parser, 'demo_results')
    parser.add_argument(
        '--threshold',
        type=float,
        default=SCORE_THRESHOLD,
        help='detections of a lower score are neither drawn nor listed, 0 to 1; default: %(default)s',
    )
    parser.add_argument(
        '--batch-size', type=int, default=1, metavar='N', help='images of one shape computed together; default: 1'
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=OptionsAction, metavar='KEY=VALUE', help='settings to change in the config'
    )
    add_trust(parser)
    args = parse(parser, None)
    if not 0 <= args.threshold <= 1:
        raise UserError(f'--threshold {args.threshold} is not a score; give a number from 0 to 1')
    if args.batch_size < 1:
        raise UserError(f'--batch-size {args.batch_size} is not a number of images; give 1 or more')

    from mmatconv.analysis.build_model import quiet
    from mmatconv.analysis.demo.inputs import Images
    from mmatconv.analysis.demo.run import write_predictions
    from mmatconv.engine.cli.published import weights_of
    from mmatconv.engine.console.bar import with_bar

    images = Images(args.images)
    config = load_config(args.config, args.cfg_options)
    progress.config = config
    checkpoint = args.checkpoint or weights_of(config)
    bar = partial(with_bar, title='predicting', total=len(images))
    with quiet(), fresh_folder(args.out) as folder:
        write_predictions(images, config, checkpoint, folder, args.threshold, args.batch_size, bar)
    print(f"'{args.out}' is written: predictions.json and {'a video' if images.is_video else 'pictures'}")


if __name__ == '__main__':
    sys.exit(report.run(main))
