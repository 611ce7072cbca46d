"""tools/test.py."""

import argparse
import os

from mmengine.config import Config

from mmatconv.engine.checks import preflight
from mmatconv.engine.checks.damaged_files import SkippedFilesHook
from mmatconv.engine.checks.output_paths import check_out_file, check_show_dir
from mmatconv.engine.cli import options, report
from mmatconv.engine.cli.parser import parse, test_parser
from mmatconv.engine.cli.startup import build_runner, join_processes, read_config
from mmatconv.engine.console.console import Console
from mmatconv.engine.console.hook import ConsoleHook
from mmatconv.engine.hooks.check_checkpoint import CheckpointGuardHook
from mmatconv.engine.hooks.dump_results import dump_metric
from mmatconv.engine.hooks.fold import FoldHook
from mmatconv.engine.hooks.image_channels import ImageChannelsHook
from mmatconv.engine.hooks.one_writer import OneFilePerImageHook
from mmatconv.engine.hooks.show_dir import ShowDirHook
from mmatconv.engine.launch.process_group import destroy_process_group
from mmatconv.engine.runner.runner import TestRunner
from mmatconv.errors import UserError

# What tools/deployment/export_onnx.py writes.
EXPORTED = ('.onnx', '.pt2')


def test(argv: list[str] | None = None) -> int:
    """tools/test.py; returns the exit status."""

    def main(progress: report.Progress) -> None:
        args = parse(test_parser(), argv)
        with Console(args.verbose) as console:
            _test(args, progress, console)

    return report.run(main)


def _test(args: argparse.Namespace, progress: report.Progress, console: Console) -> None:
    config, info = read_config(args)
    progress.config = config
    console.say(f'testing {args.checkpoint} with {config.filename}')
    config.load_from, config.resume = args.checkpoint, False
    exported = args.checkpoint.endswith(EXPORTED)
    if args.out:
        check_out_file(args.out)
    preflight.check_testing(config)
    if exported:
        _set_exported(config, args)
    if args.tta:
        options.set_tta(config)
    if args.show_dir:
        options.set_visualizer(config)
        check_show_dir(args.show_dir)
    join_processes(config, info)
    runner = build_runner(config, TestRunner)
    runner.register_hook(ConsoleHook(console, 'testing', {'pictures': args.show_dir, 'predictions': args.out}))
    runner.register_hook(ImageChannelsHook())
    runner.register_hook(SkippedFilesHook())
    if not exported:
        runner.register_hook(CheckpointGuardHook(config.load_from, exact=True))
    runner.register_hook(OneFilePerImageHook())
    if args.fold:
        runner.register_hook(FoldHook())
    if args.show_dir:
        runner.register_hook(ShowDirHook(args.show_dir))
    if args.out:
        metric = dump_metric(config.get('default_scope'), args.out)
        metric.collect_dir = os.path.join(runner.log_dir, 'collect')
        runner.test_evaluator.metrics.append(metric)
    runner.test()
    destroy_process_group()


def _set_exported(config: Config, args: argparse.Namespace) -> None:
    """Puts an exported file in the place of the model.

    Raises:
        UserError: An option is for models with weights.
    """
    for option in ('fold', 'tta'):
        if getattr(args, option):
            raise UserError(f"--{option} does not go with the exported model '{args.checkpoint}'; leave it out")
    config.model = dict(
        type='mmatconv.deploy.export.exported_model.ExportedModel',
        file=args.checkpoint,
        model=config.model,
        scope=config.get('default_scope'),
    )
    config.load_from = None
