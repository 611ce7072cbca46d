"""The hooks that make ``--resume`` continue exactly."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmatconv.engine.runner.loops import EpochLoop, IterationLoop
from mmatconv.engine.runner.random_streams import STEP, seed_everything


class ExactResumeHook(Hook):
    """Makes a resumed training the same as one without interruption.

    Each training step draws random numbers (drop path, dropout, sampling of RoIs, mixing of images) that depend on the
    seed, the process and the iteration alone. Checkpoints say how far into its epoch the training was.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._epoch = self._epoch_start = 0

    def before_train_epoch(self, runner: Runner) -> None:
        """Notes the iteration the epoch began with."""
        self._epoch = runner.epoch
        self._epoch_start = runner.iter - getattr(runner.train_loop, 'position', 0)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seeds the step."""
        seed_everything(runner.seed, runner.rank, STEP, runner.iter)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Adds what MMEngine leaves out: the batches of this epoch that were seen, and how the data were divided."""
        meta = checkpoint['meta']
        same_epoch = meta['epoch'] == self._epoch and isinstance(runner.train_loop, EpochLoop)
        meta['progress'] = dict(
            position=meta['iter'] - self._epoch_start if same_epoch else 0,
            validated=runner.message_hub.get_info('loop_stage', '') == 'val',
            **_division(runner),
        )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Sets where the first epoch begins, and says if the data are divided otherwise than before."""
        loop = runner.train_loop if runner._resume else None
        if not isinstance(loop, EpochLoop | IterationLoop) or loop.batches is None:
            return
        meta, length = checkpoint['meta'], len(loop.dataloader)
        progress = meta.get('progress', {})
        division = _division(runner)
        before = {key: progress.get(key, value) for key, value in division.items()}
        if before != division:
            runner.logger.warning(
                f'the checkpoint was trained with {_words(before)}, and is resumed with {_words(division)}: the '
                'batches differ from those of an uninterrupted training'
            )
        if isinstance(loop, EpochLoop):
            position = progress.get('position', meta['iter'] - meta['epoch'] * length)
            loop.position = min(max(position * length // max(before['batches'], 1), 0), length)


class PendingValidationHook(Hook):
    """Validates first where an interruption came between a checkpoint and its validation.

    Schedulers that follow the score, early stopping and the best checkpoint depend on it.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self._validated = True

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Notes whether the checkpoint was validated before it was written; those of MMEngine alone do not say."""
        self._validated = not runner._resume or checkpoint.get('meta', {}).get('progress', {}).get('validated', True)

    def before_train(self, runner: Runner) -> None:
        """Validates, if it was due."""
        loop = runner.train_loop
        if self._validated or runner.val_loop is None or not isinstance(loop, EpochLoop | IterationLoop):
            return
        by_epoch = isinstance(loop, EpochLoop)
        done, goal = (loop.epoch, loop.max_epochs) if by_epoch else (loop.iter, loop.max_iters)
        if by_epoch and loop.position:
            return
        loop._decide_current_val_interval()
        if done >= max(loop.val_begin, 1) and (done % loop.val_interval == 0 or done == goal):
            runner.logger.info('the checkpoint was written before its validation, which runs now')
            runner.val_loop.run()


def _division(runner: Runner) -> dict[str, int]:
    loader = runner.train_loop.dataloader
    size = getattr(loader.batch_sampler, 'batch_size', None) or loader.batch_size or 1
    return dict(processes=runner.world_size, batch_size=size, batches=len(loader))


def _words(division: dict[str, int]) -> str:
    return (
        f'{division["processes"]} processes of {division["batch_size"]} images each, {division["batches"]} batches an '
        'epoch'
    )
