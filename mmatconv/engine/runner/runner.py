"""MMEngine's Runner, made to work without GPUs and to lose nothing."""

import logging
import os
from pathlib import Path
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import barrier, get_world_size, is_main_process, master_only
from mmengine.evaluator import Evaluator
from mmengine.hooks import CheckpointHook, Hook, LoggerHook, ProfilerHook
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop, Priority
from mmengine.runner import Runner as MMEngineRunner
from torch import nn
from torch.utils.data import DataLoader

from mmatconv.backbones.base import Backbone
from mmatconv.checkpoint.loading import refuse_other_sizes
from mmatconv.engine.checks.damaged_files import check_skip, guard
from mmatconv.engine.console.console import Console
from mmatconv.engine.hooks.one_writer import MainProcessLoggerHook
from mmatconv.engine.hooks.safe_checkpoint import SafeCheckpointHook
from mmatconv.engine.hooks.sync_statistics import SyncStatisticsHook
from mmatconv.engine.runner.checkpoint_files import DEVICE_FULL, last_finite, write_whole
from mmatconv.engine.runner.loops import EpochLoop, IterationLoop
from mmatconv.engine.runner.resume import ExactResumeHook, PendingValidationHook
from mmatconv.errors import UserError

# MMEngine's hooks, and what runs in their place.
HOOKS_REPLACED = {CheckpointHook: SafeCheckpointHook, LoggerHook: MainProcessLoggerHook}
LOOPS_OF_MMENGINE = {'EpochBasedTrainLoop': EpochLoop, 'IterBasedTrainLoop': IterationLoop}


class Runner(MMEngineRunner):
    """Trains on several processes without a GPU, and never leaves half a checkpoint or none."""

    _unsynced = False  # whether SyncBatchNorm runs as BatchNorm, with statistics of each process's own

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Builds the model; backbones of this package load whole or not at all, from ``load_from`` and ``init_cfg``."""
        built = super().build_model(model)
        for module in built.modules():
            if isinstance(module, Backbone):
                refuse_other_sizes(module)
        return built

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wraps the model; on the CPU, DistributedDataParallel takes no device and SyncBatchNorm does not run."""
        if not self.distributed or get_device() != 'cpu':
            return super().wrap_model(model_wrapper_cfg, model)
        synced = sum('SyncBatchNorm' in type(module).__name__ for module in model.modules())
        if synced or self.cfg.get('sync_bn') is not None:
            self.logger.info(f'SyncBatchNorm needs GPUs: {synced or "all"} layers run as BatchNorm in each process')
            model = revert_sync_batchnorm(model)
            self._unsynced = True
            self.cfg.sync_bn = None
        wrapper = dict(
            model_wrapper_cfg
            or dict(broadcast_buffers=False, find_unused_parameters=self.cfg.get('find_unused_parameters', False))
        )
        wrapper['device_ids'] = None
        return super().wrap_model(wrapper, model)

    def register_hooks(self, default_hooks: dict | None = None, custom_hooks: list | None = None) -> None:
        """Registers the hooks, those that make ``--resume`` exact, and one where SyncBatchNorm runs as BatchNorm."""
        super().register_hooks(default_hooks, custom_hooks)
        self.register_hook(ExactResumeHook())
        self.register_hook(PendingValidationHook())
        if self._unsynced:
            self.register_hook(SyncStatisticsHook())

    def register_hook(self, hook: Hook | dict, priority: str | int | Priority | None = None) -> None:
        """Registers a hook; MMEngine's that lose checkpoints, or write a file from every process, are replaced."""
        if isinstance(hook, dict):
            for cls, replacement in HOOKS_REPLACED.items():
                if hook.get('type') in (cls, cls.__name__, f'mmengine.{cls.__name__}'):
                    hook = dict(hook, type=replacement)
        super().register_hook(hook, priority)
        for each in self.hooks:
            if isinstance(each, ProfilerHook) and not is_main_process():
                each.json_trace_path = None

    @master_only
    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """Writes a checkpoint whole or not at all.

        Raises:
            UserError: the disk is full.
        """
        if '://' in str(out_dir):
            super().save_checkpoint(out_dir, filename, *args, **kwargs)
            return
        save = super().save_checkpoint
        target = Path(out_dir, filename)
        try:
            write_whole(target, lambda partial: save(out_dir, partial.name, *args, **kwargs))
        except OSError as error:
            if error.errno not in DEVICE_FULL:
                raise
            raise UserError(
                f"{DEVICE_FULL[error.errno]}: checkpoint '{target}' could not be written; "
                f'{last_finite(self.work_dir)}; free some space, then continue with --resume'
            ) from error

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Builds the training loop; those of MMEngine resume exactly."""
        if isinstance(loop, dict):
            loop = dict(loop)
            if 'type' not in loop and 'by_epoch' in loop:
                loop['type'] = EpochBasedTrainLoop if loop.pop('by_epoch') else IterBasedTrainLoop
            kind = loop.get('type')
            name = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
            if name.removeprefix('mmengine.') in LOOPS_OF_MMENGINE:
                loop['type'] = LOOPS_OF_MMENGINE[name.removeprefix('mmengine.')]
        return super().build_train_loop(loop)

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Builds the logger; a log file that cannot be written is an error like any other, not a printed traceback."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if isinstance(handler, logging.FileHandler):
                handler.handleError = _raise_again
        if Console.current is not None:
            Console.current.attach(logger)
        return logger

    def build_evaluator(self, evaluator: dict | list | Evaluator) -> Evaluator:
        """Builds the evaluator; processes pass their results on in the log folder, not in the current folder.

        Those of several machines, which may share no disk, do so through the process group. The first process builds
        before the others: metrics of mmdet and mmpretrain remove what an earlier evaluation left where they write.
        """
        if not is_main_process():
            barrier()
        built = super().build_evaluator(evaluator)
        if is_main_process():
            barrier()
        several = get_world_size() > int(os.environ.get('LOCAL_WORLD_SIZE', get_world_size()))
        for metric in built.metrics:
            if several and getattr(metric, 'collect_dir', None) is None:
                metric.collect_device = 'gpu'  # MMEngine's word for it; gloo carries it as well
            elif getattr(metric, 'collect_device', None) == 'cpu' and metric.collect_dir is None:
                metric.collect_dir = str(Path(self.log_dir, 'collect'))
        return built

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """Builds a data loader; ``skip_corrupt`` says what it does with damaged files, see :mod:`.damaged_files`.

        Raises:
            UserError: no image is left, where MMEngine's samplers would wait for ever.
        """
        skip = None
        if isinstance(dataloader, dict):
            dataloader = dict(dataloader)
            skip = dataloader.pop('skip_corrupt', None)
            check_skip(skip)
        if isinstance(dataloader, dict) and not dataloader.get('num_workers'):
            # torch refuses both without workers; configs set them for the usual case that there are some.
            dataloader = {key: value for key, value in dataloader.items() if key != 'prefetch_factor'}
            dataloader['persistent_workers'] = False
        if isinstance(dataloader, dict) and isinstance(dataloader.get('dataset'), dict):
            # Before the sampler, which asks for the length.
            dataset = DATASETS.build(dataloader['dataset'])
            if hasattr(dataset, 'full_init'):
                dataset.full_init()
            guard(dataset, skip)
            dataloader['dataset'] = dataset
        built = MMEngineRunner.build_dataloader(dataloader, seed, diff_rank_seed)
        if hasattr(built.dataset, '__len__') and len(built.dataset) == 0:
            raise UserError(
                f'{type(built.dataset).__name__} holds no usable image; check its annotation file, that '
                'metainfo.classes are classes of that file, and filter_cfg'
            )
        return built


class TestRunner(Runner):
    """Leaves the config that training wrote to the same work dir as it is."""

    @master_only
    def dump_config(self) -> None:
        """Writes the config to the log folder of this run."""
        self.cfg.dump(str(Path(self.log_dir, Path(self.cfg.filename or 'config.py').name)))


def _raise_again(record: logging.LogRecord) -> None:
    raise


def no_gpu() -> bool:
    """Whether everything runs on the CPU."""
    return not torch.cuda.is_available() and get_device() == 'cpu'
