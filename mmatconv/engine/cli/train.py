"""tools/train.py."""

import argparse

from mmengine.runner import Runner as MMEngineRunner

from mmatconv.engine.checks import preflight
from mmatconv.engine.checks.damaged_files import SkippedFilesHook
from mmatconv.engine.cli import options, report
from mmatconv.engine.cli.parser import parse, train_parser
from mmatconv.engine.cli.startup import build_runner, join_processes, read_config
from mmatconv.engine.console.console import Console
from mmatconv.engine.console.hook import ConsoleHook
from mmatconv.engine.hooks.check_checkpoint import CheckpointGuardHook
from mmatconv.engine.hooks.image_channels import ImageChannelsHook
from mmatconv.engine.hooks.nonfinite import NonFiniteLossHook
from mmatconv.engine.launch.process_group import destroy_process_group
from mmatconv.engine.runner.runner import Runner


def train(argv: list[str] | None = None) -> int:
    """tools/train.py; returns the exit status."""

    def main(progress: report.Progress) -> None:
        args = parse(train_parser(), argv)
        with Console(args.verbose) as console:
            _train(args, progress, console)

    return report.run(main)


def _train(args: argparse.Namespace, progress: report.Progress, console: Console) -> None:
    config, info = read_config(args)
    progress.config = config
    console.say(f'training {config.filename}')
    if args.resume:
        options.set_resume(config, args.resume)
    if args.auto_scale_lr:
        options.set_auto_scale_lr(config)
    preflight.check_training(config)
    options.set_amp(config, args.amp)
    progress.training_dir = config.work_dir
    join_processes(config, info)
    runner = build_runner(config, Runner)
    runner.register_hook(ConsoleHook(console, 'training'))
    runner.register_hook(ImageChannelsHook())
    runner.register_hook(SkippedFilesHook())
    _guard_loss(runner, args.nan)
    if config.get('load_from'):
        runner.register_hook(CheckpointGuardHook(config.load_from, exact=bool(config.get('resume'))))
    runner.train()
    destroy_process_group()


def _guard_loss(runner: MMEngineRunner, action: str | None) -> None:
    guards = [hook for hook in runner.hooks if isinstance(hook, NonFiniteLossHook)]
    if not guards:
        guards = [NonFiniteLossHook()]
        runner.register_hook(guards[0])
    for guard in guards:
        guard.action = action or guard.action
