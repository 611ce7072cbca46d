"""MMEngine's two training loops, beginning in the middle of their data without loading what was seen."""

from collections.abc import Iterator
from typing import Any

from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from mmengine.runner.loops import _InfiniteDataloaderIterator
from torch.utils.data import DataLoader

from mmatconv.engine.runner.random_streams import number_batches


class EpochLoop(EpochBasedTrainLoop):
    """Epochs whose first, after an interruption, begins at batch ``position``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.batches = number_batches(self.dataloader, self.runner.seed, self.runner.rank, endless=False)
        self.position = 0

    def run_epoch(self) -> None:
        """Trains one epoch, or what is left of it."""
        if self.batches is not None:
            self.batches.start(self._iter, skip=self.position)
        super().run_epoch()
        self.position = 0

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Trains on one batch; `idx` counts from where the epoch was taken up."""
        super().run_iter(idx + self.position, data_batch)


class IterationLoop(IterBasedTrainLoop):
    """Iterations over endless data, beginning with the batch after the last one seen."""

    def __init__(self, runner: Runner, dataloader: DataLoader | dict, *args: Any, **kwargs: Any) -> None:
        BaseLoop.__init__(self, runner, dataloader)
        loader = self.dataloader
        # MMEngine 0.10.7 starts the workers of what it is given here, before it is known where to begin.
        super().__init__(runner, _NotStarted(loader.dataset), *args, **kwargs)
        self.dataloader = loader
        self.batches = number_batches(loader, self.runner.seed, self.runner.rank, endless=True)
        self.dataloader_iterator = _InfiniteDataloaderIterator(loader) if self.batches is None else _Batches(self)

    def run(self) -> None:
        """Trains."""
        if self.batches is not None:
            self.batches.start(self._iter, skip=self._iter)
        super().run()


class _NotStarted:
    """Stands in for a data loader while MMEngine's loop is made: the same data set, no workers."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __iter__(self) -> Iterator:
        return iter(())


class _Batches:
    """What :class:`IterationLoop` draws from; MMEngine's own skips by loading where a sampler has no ``skip``."""

    def __init__(self, loop: IterationLoop) -> None:
        self.loop = loop
        self._loader: DataLoader = loop.dataloader
        self._iterator: Iterator | None = None
        # MMEngine 0.10.7 asks for each batch that was seen; later versions call skip_iter, unless told not to.
        self._asked_for: int | None = 0 if getattr(loop, 'fast_forward_on_resume', False) else None

    def skip_iter(self, count: int) -> None:
        """Does nothing: the batch sampler begins after what was seen."""
        self._asked_for = 0

    def __iter__(self) -> Iterator:
        return self

    def __next__(self) -> Any:
        if self._asked_for is None:
            self._asked_for = self.loop.iter
        if self._asked_for:
            self._asked_for -= 1
            return None
        if self._iterator is None:
            self._iterator = iter(self._loader)
        return next(self._iterator)
