"""Images and label maps that cannot be read: named, or left out.

OpenMMLab's loading transforms name some files and for others fail on what is None. Here each failure of one is followed
by a second look at the file, and only if it is the file's fault, the sentence says so.
"""

import atexit
import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mmcv
from mmengine import fileio
from mmengine.dataset import BaseDataset, Compose
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from mmatconv.errors import UserError

# What becomes of a sample with a damaged file: training takes another in its place, evaluation does without.
REPLACE, LEAVE_OUT = 'replace', 'leave_out'
ADVICE = 'repair or remove it, or pass --skip-corrupt'


class GuardedLoad:
    """A loading transform that names the file it fails on, and keeps a list of such files if they are to be skipped.

    Args:
        transform: results -> results, or None for a sample that cannot be used.
        record: File of the paths of skipped files, one a line, which all data workers of a process share; None to
            raise. Default: None.

    Raises:
        UserError: In a call, a file is missing or damaged and is not to be skipped.
    """

    def __init__(self, transform: Callable[[dict], dict | None], record: Path | None = None) -> None:
        self.transform = transform
        self.record = record

    def __call__(self, results: dict) -> dict | None:
        try:
            loaded = self.transform(results)
        except Exception as error:
            damage = find_damage(self.transform, results, error)
            if damage is None:
                raise
            path, reason = damage
            if self.record is None:
                raise error if isinstance(error, UserError) else UserError(f"'{path}' {reason}; {ADVICE}") from error
            with self.record.open('a', encoding='utf-8') as stream:
                stream.write(f'{path}\n')
            return None
        return loaded

    def __repr__(self) -> str:
        return repr(self.transform)


def find_damage(transform: Any, results: dict, error: Exception) -> tuple[str, str] | None:
    """The file that made a loading transform fail, and what is wrong with it; None where its files are fine."""
    options = getattr(transform, 'backend_args', None)
    for key in ('img_path', 'seg_map_path'):
        path = results.get(key)
        if path is not None and (reason := _damage(str(path), options)):
            return str(path), reason
    if 'instances' in results and 'img_path' in results and isinstance(error, KeyError | TypeError | ValueError):
        return str(results['img_path']), f'has annotations that cannot be used ({error})'
    return None


def _damage(path: str, options: dict | None) -> str | None:
    try:
        content = fileio.get(path, backend_args=options)
    except FileNotFoundError:
        return 'does not exist'
    except OSError as error:
        return f'cannot be read ({error.strerror or error})'
    if not content:
        return 'is an empty file'
    with contextlib.suppress(Exception):
        if mmcv.imfrombytes(content, flag='unchanged') is not None:
            return None
    return 'is not an image or is damaged'


def guard(dataset: Any, skip: str | None = None) -> None:
    """Puts guards around the loading transforms of a data set and of those it wraps.

    Args:
        dataset: A data set of MMEngine's kind; any other is left as it is.
        skip: 'replace' to draw another sample in place of a damaged one, 'leave_out' to look at all files now and
            shorten the data set, None to raise. Default: None.
    """
    record = None
    if skip:
        with tempfile.NamedTemporaryFile(prefix='mmatconv-skipped-', suffix='.txt', delete=False) as file:
            record = Path(file.name)
        atexit.register(record.unlink, missing_ok=True)
    for leaf in leaves(dataset):
        compose = getattr(leaf, 'pipeline', None)
        if not isinstance(compose, Compose):
            continue
        _guard_steps(compose, record)
        if skip == LEAVE_OUT:
            _shorten(leaf)


def _guard_steps(compose: Any, record: Path | None) -> None:
    for place, step in enumerate(compose.transforms):
        for inner in getattr(step, 'subroutines', ()):  # test-time augmentation
            _guard_steps(inner, record)
        if type(step).__name__.startswith('Load'):
            compose.transforms[place] = GuardedLoad(step, record)


def _loads_of(compose: Any) -> Iterator[GuardedLoad]:
    """What loads files in a pipeline; of the branches of test-time augmentation, which load the same, the first."""
    for step in getattr(compose, 'transforms', ()):
        if isinstance(step, GuardedLoad):
            yield step
        for inner in getattr(step, 'subroutines', ())[:1]:
            yield from _loads_of(inner)


def leaves(dataset: Any) -> Iterator[BaseDataset]:
    """The data sets that load files, below any wrappers."""
    if isinstance(dataset, BaseDataset):
        yield dataset
    for part in [getattr(dataset, 'dataset', None), *(getattr(dataset, 'datasets', None) or ())]:
        if part is not None:
            yield from leaves(part)


def record_of(dataset: Any) -> Path | None:
    """The list of skipped files that :func:`guard` began."""
    for leaf in leaves(dataset):
        for step in _loads_of(getattr(leaf, 'pipeline', None)):
            if step.record is not None:
                return step.record
    return None


def _shorten(dataset: BaseDataset) -> None:
    """Leaves out the same samples in all processes, each of which has read its share of them."""
    loads = list(_loads_of(dataset.pipeline))
    MMLogger.get_current_instance().info(
        f'reading {len(dataset)} samples of {type(dataset).__name__} once, to leave damaged ones out'
    )
    share = range(get_rank(), len(dataset), get_world_size())
    damaged = [index for index in share if not _load_all(loads, dataset.get_data_info(index))]
    damaged = {index for part in all_gather_object(damaged) for index in part}
    if damaged:
        dataset.get_subset_([index for index in range(len(dataset)) if index not in damaged])


def _load_all(loads: list[GuardedLoad], results: dict | None) -> bool:
    for load in loads:
        results = load(results)
        if results is None:
            return False
    return True


class SkippedFilesHook(Hook):
    """Names every file that was skipped once, and says how many there are at the end of each epoch and evaluation."""

    def __init__(self) -> None:
        self.named: dict[str, None] = {}
        self._read = 0

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Names what this process's data workers skipped since the last step."""
        record = record_of(runner.train_dataloader.dataset)
        if record is not None and record.stat().st_size > self._read:
            self._name(self._new(record), 'another image is used instead', runner.logger)

    def after_train_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Names those of the other processes, and counts."""
        record = record_of(runner.train_dataloader.dataset)
        if record is None:
            return
        self.after_train_iter(runner)
        for part in all_gather_object(list(self.named)):
            self._name(part, 'another image is used instead', runner.logger)
        runner.logger.info(f'Epoch {runner.epoch + 1}: damaged files skipped so far: {len(self.named)}')

    def after_train(self, runner: Runner) -> None:
        """Removes the list."""
        record = record_of(runner.train_dataloader.dataset)
        if record is not None:
            record.unlink(missing_ok=True)

    def before_val(self, runner: Runner) -> None:
        """See :meth:`before_test`."""
        self._before_evaluation(runner.val_dataloader.dataset, runner.val_evaluator, runner.logger)

    def before_test(self, runner: Runner) -> None:
        """Names what is left out of an evaluation, and keeps metrics from asking for it."""
        self._before_evaluation(runner.test_dataloader.dataset, runner.test_evaluator, runner.logger)

    def _before_evaluation(self, dataset: Any, evaluator: Any, logger: MMLogger) -> None:
        record = record_of(dataset)
        if record is None:
            return
        if record.exists():
            parts = all_gather_object(record.read_text(encoding='utf-8').splitlines())
            left_out = dict.fromkeys(path for part in parts for path in part)
            record.unlink()
            self._name(left_out, 'it is left out of the evaluation', logger)
            if left_out:
                logger.warning(f'damaged files left out: {len(left_out)}; the score is over {len(dataset)} images only')
        ids = [leaf.get_data_info(i).get('img_id') for leaf in leaves(dataset) for i in range(len(leaf))]
        for metric in evaluator.metrics:
            # COCO's metric would count objects of these images as missed.
            if getattr(metric, 'img_ids', ids) is None and None not in ids:
                metric.img_ids = ids

    def _new(self, record: Path) -> list[str]:
        with record.open(encoding='utf-8') as stream:
            stream.seek(self._read)
            lines = stream.read()
            self._read = stream.tell()
        return lines.splitlines()

    def _name(self, paths: Any, what: str, logger: MMLogger) -> None:
        for path in paths:
            if path not in self.named:
                self.named[path] = None
                logger.warning(f"'{path}' cannot be read: {what}")


def set_skip(config: dict) -> None:
    """``--skip-corrupt``: what the loaders of a config do with damaged files."""
    for name, what in (('train', REPLACE), ('val', LEAVE_OUT), ('test', LEAVE_OUT)):
        if config.get(f'{name}_dataloader') is not None:
            config[f'{name}_dataloader']['skip_corrupt'] = what


def check_skip(value: Any) -> None:
    """Raises a UserError for another value of ``skip_corrupt`` than the three there are."""
    if value not in (None, REPLACE, LEAVE_OUT):
        raise UserError(f'skip_corrupt of a data loader must be {REPLACE!r}, {LEAVE_OUT!r} or None, but is {value!r}')
