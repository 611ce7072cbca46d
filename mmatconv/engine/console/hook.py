"""Shows on the console what runs, how far it is, and what came out."""

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.hooks import Hook, LoggerHook
from mmengine.model import is_model_wrapper
from mmengine.runner import IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from mmatconv.engine.console.console import Console
from mmatconv.engine.console.metrics import headline, table
from mmatconv.engine.runner.checkpoint_files import last_checkpoint


class ConsoleHook(Hook):
    """Tells the user of a run on the console.

    Args:
        console: Where to.
        task: 'training' or 'testing'.
        left_behind: What the tool itself writes besides the log, by a word for it: a file or folder each.
    """

    priority = 'VERY_LOW'

    def __init__(self, console: Console, task: str, left_behind: Mapping[str, str | None] | None = None) -> None:
        self.console = console
        self.task = task
        self.left_behind = {word: path for word, path in (left_behind or {}).items() if path}
        self.score = ''

    def before_run(self, runner: Runner) -> None:
        """Shows model, data, device and folder."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self._rows(
            model=_model(model),
            **(_data(runner) if self.task == 'training' else {'data': _images(runner.test_dataloader)}),
            device=_device(runner),
            log=_log_file(runner),
        )

    def before_train(self, runner: Runner) -> None:
        """Shows where a resumed training begins."""
        if runner.iter:
            self.console.say(f'resumed at {_position(runner, runner.iter)}')

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Shows the iteration, time left, loss, learning rate, GPU memory and the last score."""
        done = runner.iter + 1
        last = done == runner.max_iters
        if last or self.console.wants_progress():
            interval = next((hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)), 1)
            parts = [_position(runner, done), *_training_state(runner), self.score]
            self.console.progress('  '.join(filter(None, parts)), self.every_n_inner_iters(batch_idx, interval), last)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Shows how far validation is."""
        self._evaluating('validating', batch_idx, runner.val_dataloader)

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Shows how far the test is."""
        self._evaluating('testing', batch_idx, runner.test_dataloader)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Shows the scores of a validation."""
        self.score = headline(metrics or {})
        self._scores(f'validation, {_position(runner, runner.iter)}', metrics)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Shows the scores of a test."""
        self._scores('scores', metrics)

    def after_run(self, runner: Runner) -> None:
        """Shows where everything lies."""
        rows = dict(self.left_behind)
        if self.task == 'training':
            last, best = last_checkpoint(runner.work_dir), runner.message_hub.runtime_info.get('best_ckpt')
            rows = {'checkpoint': str(last or 'none'), **({'best': best} if best else {}), **rows}
        scores = Path(runner.log_dir, f'{runner.timestamp}.json')
        if self.task == 'testing' and scores.exists():
            rows['scores'] = str(scores)
        self._rows(**rows, log=_log_file(runner))

    def _rows(self, **rows: str) -> None:
        for word, text in rows.items():
            self.console.say(f'  {word:<11} {text}')

    def _evaluating(self, what: str, batch: int, loader: DataLoader) -> None:
        if self.console.wants_progress():
            self.console.progress(f'{what} {batch + 1}/{len(loader)}', due=batch > 0)

    def _scores(self, title: str, metrics: dict[str, float] | None) -> None:
        if metrics:
            self.console.say(table(metrics, title))


def _model(model: torch.nn.Module) -> str:
    inner = getattr(model, 'module', model)  # test-time augmentation wraps it
    backbone = getattr(inner, 'backbone', None)
    name = type(inner).__name__ + (f' with {type(backbone).__name__}' if backbone is not None else '')
    return f'{name}, {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters'


def _data(runner: Runner) -> dict[str, str]:
    loop = runner.train_loop
    loader = loop.dataloader
    length = f'{loop.max_iters} iterations' if _by_iteration(runner) else f'{loop.max_epochs} epochs of {len(loader)}'
    size = getattr(loader.batch_sampler, 'batch_size', None) or loader.batch_size or 1
    rows = {'training': f'{_images(loader)}, {length}, {size * runner.world_size} at a time'}
    if runner.val_loop is not None:
        unit = 'iterations' if _by_iteration(runner) else 'epochs'
        every = f'every {loop.val_interval} {unit}' if loop.val_interval > 1 else f'every {unit[:-1]}'
        rows['validation'] = f'{_images(runner.val_loop.dataloader)}, {every}'
    return rows


def _images(loader: DataLoader) -> str:
    dataset = loader.dataset
    return f'{len(dataset)} images ({type(dataset).__name__})' if hasattr(dataset, '__len__') else str(dataset)


def _device(runner: Runner) -> str:
    kind = get_device()
    name = torch.cuda.get_device_name() if kind == 'cuda' else 'CPU' if kind == 'cpu' else kind
    count = runner.world_size
    if kind != 'cpu':
        return f'{count} x {name}'
    threads = torch.get_num_threads()
    return f'{name}, {count} process{"es" * (count > 1)} of {threads} thread{"s" * (threads > 1)}'


def _by_iteration(runner: Runner) -> bool:
    return isinstance(runner.train_loop, IterBasedTrainLoop)


def _position(runner: Runner, done: int) -> str:
    total = runner.max_iters
    if _by_iteration(runner):
        return f'iteration {done}/{total}'
    epoch = min(-(-done // max(len(runner.train_dataloader), 1)), runner.max_epochs)
    return f'epoch {epoch}/{runner.max_epochs}, iteration {done}/{total}'


def _training_state(runner: Runner) -> list[str]:
    hub = runner.message_hub
    parts = []
    if 'eta' in hub.runtime_info:
        parts.append(f'ETA {datetime.timedelta(seconds=int(hub.get_info("eta")))}')
    if 'train/loss' in hub.log_scalars:
        parts.append(f'loss {hub.get_scalar("train/loss").mean(runner.log_processor.window_size):.4g}')
    if 'train/lr' in hub.log_scalars:
        parts.append(f'lr {hub.get_scalar("train/lr").current():.2e}')
    if torch.cuda.is_available():
        parts.append(f'memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB')
    return parts


def _log_file(runner: Runner) -> str:
    return str(Path(runner.log_dir, f'{runner.timestamp}.log'))
