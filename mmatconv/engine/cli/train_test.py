"""tools/train.py and tools/test.py: their options, and the order of things."""

import argparse
import os
from typing import NoReturn

from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner as MMEngineRunner

from mmatconv.checkpoint.reader import trust_checkpoints
from mmatconv.engine.checks import preflight
from mmatconv.engine.checks.damaged_files import set_skip
from mmatconv.engine.cli import options, report
from mmatconv.engine.cli.config_file import OptionsAction, load_config
from mmatconv.engine.hooks.nonfinite import ACTIONS, NonFiniteLossHook
from mmatconv.engine.launch import process_group as launch
from mmatconv.errors import UserError


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is one sentence, said once."""

    def error(self, message: str) -> NoReturn:
        """Hands the complaint to the tool."""
        raise UserError(f'{message}; see {self.prog} --help')


def train(argv: list[str] | None = None) -> int:
    """tools/train.py; returns the exit status."""
    return report.run(lambda progress: _train(parse(train_parser(), argv), progress))


def test(argv: list[str] | None = None) -> int:
    """tools/test.py; returns the exit status."""
    return report.run(lambda progress: _test(parse(test_parser(), argv)))


def train_parser() -> Parser:
    """The options of tools/train.py."""
    parser = Parser('train.py', description='Trains a detector, a segmentor or a classifier.')
    _add_common(parser)
    parser.add_argument('--amp', action='store_true', help='mixed precision: fp16 on a GPU, bf16 on the CPU')
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale the learning rate with the batch size')
    parser.add_argument(
        '--resume', nargs='?', const='auto', metavar='PATH', help='go on from PATH, or from the newest of the work dir'
    )
    parser.add_argument(
        '--nan',
        choices=ACTIONS,
        help='when the loss is no finite number: stop (the default), or skip the step and count it',
    )
    return parser


def test_parser() -> Parser:
    """The options of tools/test.py."""
    parser = Parser('test.py', description='Evaluates a checkpoint.')
    _add_common(parser, checkpoint=True)
    parser.add_argument('--out', metavar='FILE.pkl', help='write the predictions to a file that is not there yet')
    parser.add_argument('--show-dir', metavar='FOLDER', help='draw every prediction beside the ground truth')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    parser.add_argument('--fold', action='store_true', help='fold norms and scales into the weights: the same, faster')
    return parser


def _add_common(parser: Parser, checkpoint: bool = False) -> None:
    parser.add_argument('config', help='path of the config, from here or from the project folder')
    if checkpoint:
        parser.add_argument('checkpoint', help='path or URL of the checkpoint')
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
    parser.add_argument('--launcher', choices=launch.LAUNCHERS, default='none', help='how the processes were started')
    # torch.distributed.launch, torchrun's predecessor, passes it.
    parser.add_argument('--local-rank', '--local_rank', type=int, help=argparse.SUPPRESS)


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


def _prepare(args: argparse.Namespace) -> tuple[Config, launch.Place]:
    if args.local_rank is not None:
        os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    place = launch.find_place(args.launcher)
    config = load_config(args.config, args.cfg_options)
    config.launcher = args.launcher
    options.set_work_dir(config, args.work_dir, args.config)
    options.set_loader_defaults(config)
    if args.skip_corrupt:
        set_skip(config)
    return config, place


def _join(config: Config, place: launch.Place) -> None:
    """From here on, the costly part: other processes, packages, data and models."""
    launch.start(config.launcher, place, (config.get('env_cfg') or {}).get('dist_cfg') or {})
    options.register_modules(config)
    from mmatconv.checkpoint.loading import use_safe_loader

    use_safe_loader()


def _build(config: Config, runner: type[MMEngineRunner]) -> MMEngineRunner:
    return RUNNERS.build(config) if 'runner_type' in config else runner.from_cfg(config)


def _train(args: argparse.Namespace, progress: report.Progress) -> None:
    config, place = _prepare(args)
    if args.resume:
        options.set_resume(config, args.resume)
    if args.auto_scale_lr:
        options.set_auto_scale_lr(config)
    preflight.check_training(config)
    options.set_amp(config, args.amp)
    progress.training_dir = config.work_dir
    _join(config, place)
    from mmatconv.engine.checks.damaged_files import SkippedFilesHook
    from mmatconv.engine.hooks.checkpoint import CheckpointGuardHook, ImageChannelsHook
    from mmatconv.engine.runner.runner import Runner

    runner = _build(config, Runner)
    runner.register_hook(ImageChannelsHook())
    runner.register_hook(SkippedFilesHook())
    _guard_loss(runner, args.nan)
    if config.get('load_from'):
        runner.register_hook(CheckpointGuardHook(config.load_from, exact=bool(config.get('resume'))))
    runner.train()
    launch.stop()


def _guard_loss(runner: MMEngineRunner, action: str | None) -> None:
    guards = [hook for hook in runner.hooks if isinstance(hook, NonFiniteLossHook)]
    if not guards:
        guards = [NonFiniteLossHook()]
        runner.register_hook(guards[0])
    for guard in guards:
        guard.action = action or guard.action


def _test(args: argparse.Namespace) -> None:
    config, place = _prepare(args)
    config.load_from, config.resume = args.checkpoint, False
    if args.out:
        preflight.check_out_file(args.out)
    preflight.check_testing(config)
    if args.tta:
        options.set_tta(config)
    if args.show_dir:
        options.set_visualizer(config)
        preflight.check_show_dir(args.show_dir)
    _join(config, place)
    from mmatconv.engine.checks.damaged_files import SkippedFilesHook
    from mmatconv.engine.hooks.checkpoint import CheckpointGuardHook, ImageChannelsHook
    from mmatconv.engine.hooks.fold import FoldHook
    from mmatconv.engine.hooks.results import ShowDirHook, dump_metric
    from mmatconv.engine.runner.runner import TestRunner

    runner = _build(config, TestRunner)
    runner.register_hook(ImageChannelsHook())
    runner.register_hook(SkippedFilesHook())
    runner.register_hook(CheckpointGuardHook(config.load_from, exact=True))
    if args.fold:
        runner.register_hook(FoldHook())
    if args.show_dir:
        runner.register_hook(ShowDirHook(args.show_dir))
    if args.out:
        metric = dump_metric(config.get('default_scope'), args.out)
        metric.collect_dir = os.path.join(runner.log_dir, 'collect')
        runner.test_evaluator.metrics.append(metric)
    runner.test()
    launch.stop()
