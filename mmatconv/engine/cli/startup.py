"""What tools/train.py and tools/test.py do before they have a runner: config, processes, packages."""

import argparse
import os

from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner as MMEngineRunner

from mmatconv.engine.checks.damaged_files import set_skip
from mmatconv.engine.cli import options
from mmatconv.engine.cli.config_file import load_config
from mmatconv.engine.console.console import Console
from mmatconv.engine.launch.dist_info import DistInfo, read_dist_info
from mmatconv.engine.launch.process_group import init_process_group
from mmatconv.openmmlab.checkpoint_loader import use_safe_loader
from mmatconv.openmmlab.whole_files import use_whole_files


def read_config(args: argparse.Namespace) -> tuple[Config, DistInfo]:
    """The config with what the command line changes in it, and which process this is.

    Raises:
        UserError: the config cannot be read, an option does not fit it, or the launcher's variables are wrong.
    """
    if args.local_rank is not None:
        os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    info = read_dist_info(args.launcher)
    config = load_config(args.config, args.cfg_options)
    config.launcher = args.launcher
    options.set_work_dir(config, args.work_dir, args.config)
    options.set_loader_defaults(config)
    if args.skip_corrupt:
        set_skip(config)
    return config, info


def join_processes(config: Config, info: DistInfo) -> None:
    """Joins the process group and imports the config's package: all that is cheap was checked before.

    Raises:
        UserError: the other processes cannot be reached, or the package is not installed.
    """
    init_process_group(config.launcher, info, (config.get('env_cfg') or {}).get('dist_cfg') or {})
    options.register_modules(config)
    use_safe_loader()
    use_whole_files()


def build_runner(config: Config, runner: type[MMEngineRunner]) -> MMEngineRunner:
    """Builds `runner`, or the class that the config names as ``runner_type``."""
    if 'runner_type' not in config:
        return runner.from_cfg(config)
    built = RUNNERS.build(config)
    if Console.current is not None:
        Console.current.attach(built.logger)
    return built
