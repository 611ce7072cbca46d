"""The options of the tools."""

import argparse
from pathlib import Path
from typing import NoReturn

from mmatconv.checkpoint.reader import trust_checkpoints
from mmatconv.engine.cli.config_file import OptionsAction
from mmatconv.engine.hooks.nonfinite import ACTIONS
from mmatconv.engine.launch.dist_info import LAUNCHERS
from mmatconv.errors import UserError


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is one sentence, said once."""

    def error(self, message: str) -> NoReturn:
        """Hands the complaint to the tool."""
        raise UserError(f'{message}; see {self.prog} --help')


def train_parser() -> Parser:
    """The options of tools/train.py."""
    parser = Parser('train.py', description='Trains a detector, a segmentor, a classifier or an image generator.')
    _add_common(parser)
    parser.add_argument('--amp', action='store_true', help='mixed precision: fp16 on a GPU, bf16 on the CPU')
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale the learning rate with the batch size')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='PATH',
        help='resume from PATH, or from the newest checkpoint of the work dir',
    )
    parser.add_argument(
        '--nan',
        choices=ACTIONS,
        help='when the loss is not finite: stop (the default), or skip the step and count it',
    )
    return parser


def test_parser() -> Parser:
    """The options of tools/test.py."""
    parser = Parser('test.py', description='Evaluates a checkpoint.')
    _add_common(parser, checkpoint=True)
    parser.add_argument(
        '--out', metavar='FILE.pkl', help='write the predictions to this file, which must not exist yet'
    )
    parser.add_argument('--show-dir', metavar='FOLDER', help='draw every prediction beside the ground truth')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    parser.add_argument('--fold', action='store_true', help='fold norms and scales into the weights: the same, faster')
    return parser


def _add_common(parser: Parser, checkpoint: bool = False) -> None:
    parser.add_argument('config', help='path of the config, from here or from the project folder')
    if checkpoint:
        parser.add_argument('checkpoint', help='path or URL of the checkpoint, or path of an exported model')
    parser.add_argument('--work-dir', metavar='FOLDER', help='logs and checkpoints; ./work_dirs/<config> if not given')
    parser.add_argument(
        '--cfg-options', nargs='+', action=OptionsAction, metavar='KEY=VALUE', help='settings to change in the config'
    )
    parser.add_argument(
        '--skip-corrupt',
        action='store_true',
        help='skip and count files that cannot be read: training takes another, evaluation leaves them out',
    )
    add_trust(parser)
    parser.add_argument('--verbose', action='store_true', help='show on the console all that the log file gets')
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='how the processes were started')
    # torch.distributed.launch, torchrun's predecessor, passes it.
    parser.add_argument('--local-rank', '--local_rank', type=int, help=argparse.SUPPRESS)


def add_out(parser: argparse.ArgumentParser, default: str | None, described: str | None = None) -> None:
    """The option of tools that write a folder with :func:`mmatconv.datasets.fresh_folder.fresh_folder`.

    Args:
        parser: Of the tool.
        default: The folder's name, None where the tool finds one.
        described: How the help names the default. None: as it is.
    """
    parser.add_argument(
        '--out',
        type=Path,
        default=default,
        metavar='FOLDER',
        help=f'folder to write, which must not exist or be empty; default: {described or default}',
    )


def add_trust(parser: argparse.ArgumentParser) -> None:
    """The option of every tool that reads a checkpoint."""
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='run whatever code a checkpoint of this run carries if it cannot be read as data; docs/security.md',
    )


def parse(parser: Parser, argv: list[str] | None) -> argparse.Namespace:
    """Parses; --trust-checkpoint holds for this call of a tool alone."""
    args = parser.parse_args(argv)
    trust_checkpoints(args.trust_checkpoint)
    return args
