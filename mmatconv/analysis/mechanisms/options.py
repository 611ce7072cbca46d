"""The options that tools/analysis_tools/routing.py and inhibition.py share."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmatconv.engine.cli import report
from mmatconv.engine.cli.parser import Parser, add_out
from mmatconv.engine.console.bar import with_bar
from mmatconv.errors import UserError


def add_common(parser: Parser, out: str) -> None:
    """The images, the model, and where to write."""
    parser.add_argument('images', type=Path, help='an image, a folder of images, or a video')
    parser.add_argument('--config', help='of a model with a backbone of mmatconv; without it, untrained layers')
    parser.add_argument('--checkpoint', help='its weights')
    add_out(parser, out)
    parser.add_argument('--size', type=int, default=224, metavar='PIXELS', help='side of the image; default: 224')
    parser.add_argument('--dim', type=int, default=64, metavar='C', help='channels of untrained layers; default: 64')


def load(args: Any, progress: report.Progress) -> Any:
    """The trained model of ``--config`` and ``--checkpoint``, or None without them."""
    from mmatconv.analysis.demo.model import TrainedModel
    from mmatconv.engine.cli.config_file import load_config

    if (args.config is None) != (args.checkpoint is None):
        raise UserError('--config and --checkpoint belong together; give both, or neither for untrained layers.')
    if args.size < 32:
        raise UserError(f'--size {args.size} is too small; give at least 32 pixels.')
    if args.config is None:
        return None
    progress.config = load_config(args.config, None)
    return TrainedModel(progress.config, args.checkpoint)


def shown(images: Any) -> Iterable:
    """The images with a bar on the terminal."""
    return with_bar(images, 'images', len(images))
