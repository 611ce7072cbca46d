"""Keeps the running statistics of norms equal in all processes where SyncBatchNorm does not run."""

from typing import Any

from mmengine.dist import all_reduce_params
from mmengine.hooks import Hook
from mmengine.runner import Runner


class SyncStatisticsHook(Hook):
    """Averages running statistics over the processes after every step, as SyncBatchNorm keeps them equal.

    Without it each process validates with statistics of its own, and the checkpoint holds those of the first.
    """

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Averages the buffers; the checkpoint hook comes later, its priority being lower."""
        all_reduce_params(runner.model.buffers(), op='mean')
