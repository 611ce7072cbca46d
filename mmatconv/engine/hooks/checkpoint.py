"""Hooks that guard checkpoints: what is written, and what is read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce_params, barrier, is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mmatconv.checkpoint.loading import LoadReport, check_kinds, compare, state_dict_of
from mmatconv.engine.hooks.nonfinite import check_weights
from mmatconv.engine.runner.checkpoint_files import remove_partial, write_whole
from mmatconv.errors import UserError


class SafeCheckpointHook(CheckpointHook):
    """Leaves a checkpoint to go on from at any moment.

    An old one is removed after the new one is written, where MMEngine does it before, and ``last_checkpoint`` names the
    new one only then. Weights that are not finite are not written.
    """

    def before_train(self, runner: Runner) -> None:
        """Removes what a killed process left half written."""
        super().before_train(runner)
        if is_main_process() and '://' not in str(self.out_dir):
            for path in remove_partial(Path(self.out_dir)):
                runner.logger.info(f'{path}, left half written, is removed')

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        check_weights(runner)
        if not self.by_epoch:
            # Only those of the first process are written; SyncBuffersHook averages them at the end of an epoch.
            all_reduce_params(runner.model.buffers(), op='mean')
        outdated = None
        if self.max_keep_ckpts > 0 and (not self.keep_ckpt_ids or self.keep_ckpt_ids[-1] != step):
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                outdated = self.keep_ckpt_ids.popleft()
            self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            last = Path(runner.work_dir, 'last_checkpoint')
            write_whole(last, lambda path: path.write_text(self.last_ckpt, encoding='utf-8'))
        # Another process that fails in the validation that follows ends the first, which must not still be writing.
        barrier()
        if outdated is not None:
            self._remove(self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(outdated)))

    def _save_best_checkpoint(self, runner: Runner, metrics: Mapping[str, Any]) -> None:
        if not self.save_best:
            return
        check_weights(runner)
        before = self._best()
        self._set_best(dict.fromkeys(before))
        super()._save_best_checkpoint(runner, metrics)
        after = self._best()
        self._set_best({key: after[key] or before.get(key) for key in after})
        for key, path in before.items():
            if path and after.get(key) not in (None, path):
                self._remove(path)

    def _best(self) -> dict[str, str | None]:
        if len(self.key_indicators) == 1:
            return {'': self.best_ckpt_path}
        return dict(self.best_ckpt_path_dict)

    def _set_best(self, paths: dict[str, str | None]) -> None:
        if len(self.key_indicators) == 1:
            self.best_ckpt_path = paths['']
        else:
            self.best_ckpt_path_dict.update(paths)

    def _remove(self, path: str) -> None:
        if not is_main_process():
            return
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):
            self.file_backend.rmtree(path)


class CheckpointGuardHook(Hook):
    """Compares what a checkpoint file holds with the model before it is loaded; MMEngine loads what fits and goes on.

    Args:
        exact: every tensor must fit, as in testing and resuming; otherwise at least one must, as in fine-tuning.
    """

    priority = 'LOWEST'

    def __init__(self, path: str, exact: bool) -> None:
        self.path = path
        self.exact = exact

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compares, and logs how many tensors fit.

        Raises:
            UserError: the checkpoint is of another model.
        """
        model = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        state = state_dict_of(checkpoint)
        # MMEngine looks for 'state_dict' alone; other programs write 'model'.
        checkpoint.setdefault('state_dict', state)
        report = check_state(model, state, self.path, self.exact)
        runner.logger.info(f"checkpoint '{self.path}': {report.summary()}")


class SyncStatisticsHook(Hook):
    """Averages running statistics over the processes after every step, as SyncBatchNorm keeps them equal.

    Without it each process validates with statistics of its own, and the checkpoint holds those of the first.
    """

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Averages the buffers; the checkpoint hook comes later, its priority being lower."""
        all_reduce_params(runner.model.buffers(), op='mean')


class ImageChannelsHook(Hook):
    """Says which image has another number of channels than the model normalises; the preprocessors fail by index."""

    priority = 'VERY_HIGH'

    def _before_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, mode: str = 'train') -> None:
        """Compares the images of a batch with the preprocessor's means.

        Raises:
            UserError: an image has other channels.
        """
        model = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        mean = getattr(getattr(model, 'data_preprocessor', None), 'mean', None)
        images = data_batch.get('inputs') if isinstance(data_batch, Mapping) else None
        if not isinstance(mean, torch.Tensor) or mean.numel() == 1 or not isinstance(images, list | torch.Tensor):
            return
        for image, sample in zip(images, data_batch.get('data_samples') or [None] * len(images)):
            if isinstance(image, torch.Tensor) and image.dim() == 3 and image.shape[0] != mean.numel():
                path = getattr(sample, 'img_path', 'an image')
                raise UserError(
                    f"'{path}' is loaded with {tuple(image.shape)} values (channels, height, width), but the model "
                    f'expects {mean.numel()} channels; convert the image, or change LoadImageFromFile, '
                    'model.data_preprocessor and model.backbone.in_channels together'
                )


def check_state(model: nn.Module, state: dict[str, torch.Tensor], path: str, exact: bool) -> LoadReport:
    """Compares a state dict with a model.

    Raises:
        UserError: with `exact`, a tensor is missing, left over or of another shape; otherwise, none fits; or one holds
            another kind of numbers.
    """
    own = model.state_dict()
    report = compare(own, state)
    check_kinds(own, state, path)
    # A counter that evaluation does not read, and that old checkpoints lack.
    missing = [name for name in report.missing if not name.endswith('num_batches_tracked')]
    if not (missing or report.unused or report.mismatched):
        return report
    if not report.loaded:
        raise UserError(
            f"checkpoint '{path}' is of another model: none of its {len(state)} tensors fits the {len(own)} of this "
            f"config (the first is '{next(iter(state))}', expected '{next(iter(own))}'); use the config it was trained "
            'with'
        )
    if not exact or _loads(model, state):
        return report
    if report.mismatched:
        name, expected, found = report.mismatched[0]
        first = f"'{name}' is {found} in the file and {expected} in the model"
    elif missing:
        first = f"'{missing[0]}' {tuple(own[missing[0]].shape)} is not in the file"
    else:
        first = f"'{report.unused[0]}' {tuple(state[report.unused[0]].shape)} is not in the model"
    raise UserError(
        f"checkpoint '{path}' is of another model: {len(missing)} tensors of this config are missing in it, "
        f'{len(report.unused)} are left over and {len(report.mismatched)} have another shape ({first}); use the config '
        'it was trained with'
    )


def _loads(model: nn.Module, state: dict[str, torch.Tensor]) -> bool:
    """Whether the model itself makes the tensors fit: some layers rename what older versions of them wrote."""
    try:
        left = model.load_state_dict(state, strict=False)
    except (RuntimeError, UserError):
        return False
    return not left.unexpected_keys and all(name.endswith('num_batches_tracked') for name in left.missing_keys)
