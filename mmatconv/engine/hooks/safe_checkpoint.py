"""Writes checkpoints so that there is always one to resume from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import all_reduce_params, barrier, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmatconv.engine.hooks.nonfinite import check_weights
from mmatconv.engine.runner.checkpoint_files import remove_partial, write_whole


class SafeCheckpointHook(CheckpointHook):
    """Leaves a checkpoint to resume from at any moment.

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
