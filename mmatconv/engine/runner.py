"""MMEngine's Runner, made to work without GPUs and to lose nothing."""

import os
from pathlib import Path
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import master_only
from mmengine.evaluator import Evaluator
from mmengine.hooks import CheckpointHook, Hook
from mmengine.model import revert_sync_batchnorm
from mmengine.runner import Runner as MMEngineRunner
from torch import nn
from torch.utils.data import DataLoader

from mmatconv.backbones.base import Backbone
from mmatconv.checkpoint import refuse_other_sizes
from mmatconv.engine.hooks import SafeCheckpointHook, SyncStatisticsHook
from mmatconv.errors import UserError


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
        """Registers the hooks, and one more where SyncBatchNorm runs as BatchNorm."""
        super().register_hooks(default_hooks, custom_hooks)
        if self._unsynced:
            self.register_hook(SyncStatisticsHook())

    def register_default_hooks(self, hooks: dict[str, Hook | dict] | None = None) -> None:
        """Registers the default hooks, with MMEngine's own CheckpointHook replaced by the safe one."""
        hooks = dict(hooks or {})
        checkpoint = hooks.get('checkpoint', dict(type='CheckpointHook', interval=1))
        if isinstance(checkpoint, dict) and checkpoint.get('type') in (
            'CheckpointHook',
            'mmengine.CheckpointHook',
            CheckpointHook,
        ):
            hooks['checkpoint'] = dict(checkpoint, type=SafeCheckpointHook)
        super().register_default_hooks(hooks)

    @master_only
    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """Writes a checkpoint beside its final name and then renames it, so that none is ever half written."""
        if '://' in str(out_dir):
            super().save_checkpoint(out_dir, filename, *args, **kwargs)
            return
        partial = Path(out_dir, f'{filename}.partial')
        try:
            super().save_checkpoint(out_dir, partial.name, *args, **kwargs)
            os.replace(partial, Path(out_dir, filename))
        finally:
            partial.unlink(missing_ok=True)

    def build_evaluator(self, evaluator: dict | list | Evaluator) -> Evaluator:
        """Builds the evaluator; processes pass their results on in the log folder, not in the current folder."""
        built = super().build_evaluator(evaluator)
        for metric in built.metrics:
            if getattr(metric, 'collect_device', None) == 'cpu' and metric.collect_dir is None:
                metric.collect_dir = str(Path(self.log_dir, 'collect'))
        return built

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """Builds a data loader.

        Raises:
            UserError: no image is left, where MMEngine's samplers would wait for ever.
        """
        if isinstance(dataloader, dict) and not dataloader.get('num_workers'):
            # torch refuses both without workers; configs set them for the usual case that there are some.
            dataloader = {key: value for key, value in dataloader.items() if key != 'prefetch_factor'}
            dataloader['persistent_workers'] = False
        built = MMEngineRunner.build_dataloader(dataloader, seed, diff_rank_seed)
        if hasattr(built.dataset, '__len__') and len(built.dataset) == 0:
            raise UserError(
                f'{type(built.dataset).__name__} holds no image that can be used; check its annotation file, that '
                'metainfo.classes are classes of that file, and filter_cfg'
            )
        return built


class TestRunner(Runner):
    """Leaves the config that training wrote to the same work dir as it is."""

    @master_only
    def dump_config(self) -> None:
        """Writes the config to the log folder of this run."""
        self.cfg.dump(str(Path(self.log_dir, Path(self.cfg.filename or 'config.py').name)))


def no_gpu() -> bool:
    """Whether everything runs on the CPU."""
    return not torch.cuda.is_available() and get_device() == 'cpu'
