"""Every file of a run has one writer: what MMEngine, mmdet and mmseg write from every process."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmengine.dataset import DefaultSampler
from mmengine.dist import get_dist_info, is_main_process
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook, LoggerHook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmatconv.engine.checks.damaged_files import leaves
from mmatconv.errors import UserError


class MainProcessLoggerHook(LoggerHook):
    """Writes the scores of a test, and the copies for ``out_dir``, in the first process; MMEngine's does it in all."""

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Logs the scores and writes them to the log folder."""
        if is_main_process():
            super().after_test_epoch(runner, metrics)

    def after_run(self, runner: Runner) -> None:
        """Copies the logs to ``out_dir``, if there is one."""
        if is_main_process():
            super().after_run(runner)
        else:
            runner.visualizer.close()


class OwnSamples:
    """The samples of an evaluation that belong to this process alone.

    MMEngine's sampler repeats the first images so that all processes have equally many; two processes then write the
    files of the same image.

    Args:
        loader: The data loader; :meth:`of` is to be called with each of its batches in turn.
    """

    def __init__(self, loader: DataLoader) -> None:
        self._rank, self._processes = get_dist_info()
        self._size = len(loader.dataset) if isinstance(loader.sampler, DefaultSampler) else None
        self._seen = 0

    def of(self, samples: Iterable[Any]) -> list[Any]:
        """Those samples of the next batch that are not repeated ones."""
        own = []
        for sample in samples:
            # DefaultSampler deals the samples out in turn, and the repeated ones last.
            if self._size is None or self._seen * self._processes + self._rank < self._size:
                own.append(sample)
            self._seen += 1
        return own


class OneFilePerImageHook(Hook):
    """Metrics that write a file for each image (``output_dir``, ``outfile_prefix``) write each once.

    They name files by the image's name without its folder, and two processes write that of a repeated image.
    """

    def before_test(self, runner: Runner) -> None:
        """Checks the names, and keeps repeated images from such metrics.

        Raises:
            UserError: two images of different folders have the same name.
        """
        for metric in _writers(runner.test_evaluator):
            _check_names(runner.test_dataloader.dataset, type(metric).__name__)
            _skip_repeated(metric, runner.test_dataloader)


def _writers(evaluator: Evaluator) -> list[Any]:
    names = ('output_dir', 'seg_out_dir')  # of mmseg's metrics, and of mmdet's for panoptic segmentation
    kinds = ('CityScapesMetric',)
    return [
        metric
        for metric in evaluator.metrics
        if type(metric).__name__ in kinds or any(getattr(metric, name, None) for name in names)
    ]


def _check_names(dataset: Any, metric: str) -> None:
    paths = [str(leaf.get_data_info(i).get('img_path')) for leaf in leaves(dataset) for i in range(len(leaf))]
    name, count = next(iter(Counter(Path(path).stem for path in paths).most_common(1)), ('', 0))
    if count > 1:
        first, second = [path for path in paths if Path(path).stem == name][:2]
        raise UserError(
            f"{metric} would write the predictions of '{first}' and '{second}' to the same file; evaluate the folders "
            'one by one, or leave its output_dir or outfile_prefix out'
        )


def _skip_repeated(metric: Any, loader: DataLoader) -> None:
    own, process = OwnSamples(loader), metric.process
    metric.process = lambda data_batch, data_samples: process(data_batch, own.of(data_samples))
