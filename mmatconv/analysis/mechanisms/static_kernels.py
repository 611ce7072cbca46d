"""What adaptive kernels contribute: a trained model with its own kernels, and with their mean over the images."""

import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from mmatconv.analysis.mechanisms.generated_kernels import atconv_layers, changed_kernels
from mmatconv.analysis.mechanisms.inhibition import effective_number
from mmatconv.engine.checks import preflight
from mmatconv.engine.cli.options import set_loader_defaults
from mmatconv.engine.cli.startup import build_runner, join_processes
from mmatconv.engine.console.console import Console
from mmatconv.engine.hooks.check_checkpoint import CheckpointGuardHook
from mmatconv.engine.launch.dist_info import read_dist_info
from mmatconv.engine.runner.runner import TestRunner
from mmatconv.errors import UserError

Scores = Mapping[str, Any]


class KernelStatistics:
    """Mean and spread of a layer's kernels, from running sums in float64."""

    def __init__(self) -> None:
        self.count = 0
        self.total: Tensor | float = 0.0
        self.squares = 0.0

    def add(self, kernels: Tensor) -> None:
        """Count the kernels (B, C, K, K) of B images."""
        kernels = kernels.detach().double()
        self.count += len(kernels)
        self.total = self.total + kernels.sum(0)
        self.squares += float(kernels.square().sum())

    @property
    def mean(self) -> Tensor:
        """(C, K, K)."""
        return self.total / self.count

    def spread(self) -> tuple[float, float, float]:
        """The norm of a kernel, and how far kernels lie from their mean over the images, and those means from theirs
        over the channels, as shares of the norm. All are root mean squares: the shares' squares sum to at most 1.
        """
        mean = self.mean
        square = self.squares / self.count / len(mean)
        of_means = float(mean.square().sum()) / len(mean)
        between = float((mean - mean.mean(0)).square().sum()) / len(mean)
        if square == 0:
            return 0.0, 0.0, 0.0
        # Rounding of the sums is no spread: equal kernels may come out 1e-16 apart, either way.
        within = 0.0 if square - of_means < 1e-12 * square else square - of_means
        return square**0.5, (within / square) ** 0.5, (between / square) ** 0.5

    def shapes(self) -> float:
        """How many shapes the mean kernels (C, K, K) are mixtures of, by their squared singular values: from 1, each is
        a multiple of one kernel, to K * K; 0 if all are 0.
        """
        return effective_number(torch.linalg.svdvals(self.mean.flatten(1)).square())


@dataclass
class LayerKernels:
    """An ATConv's row: its name, :meth:`KernelStatistics.spread` and ``shapes()``, mean of ``|difference_control|``."""

    name: str
    norm: float
    over_images: float
    over_channels: float
    shapes: float
    control: float


def compare_kernels(
    model: nn.Module, evaluate: Callable[[str], Scores], average: Callable[[], None] | None = None
) -> tuple[Scores, Scores, list[LayerKernels]]:
    """Evaluate a model with its own kernels, then with each layer's mean over all images that it saw.

    Args:
        model: With at least one ATConv.
        evaluate: Of 'own kernels' or 'mean kernels'; runs the model over the images and returns its scores.
        average: Runs the model over the images that the means are of. Default: None, those that ``evaluate`` shows.

    Returns:
        Both scores, and a row for each ATConv.

    Raises:
        UserError: The model has no ATConv.
    """
    layers = atconv_layers(model)
    if not layers:
        raise UserError(f'{type(model).__name__} has no ATConv, so no kernels to hold still; use another config.')
    seen: dict[str, KernelStatistics] = defaultdict(KernelStatistics)

    def count(name: str, kernels: Tensor) -> Tensor:
        seen[name].add(kernels)
        return kernels

    def hold(name: str, kernels: Tensor) -> Tensor:
        return torch.empty_like(kernels).copy_(seen[name].mean)

    if average is None:
        with changed_kernels(model, count):
            own = evaluate('own kernels')
    else:
        own = evaluate('own kernels')
        with changed_kernels(model, count):
            average()
    with changed_kernels(model, hold):
        held = evaluate('mean kernels')
    controls = {name: float(layers[name].difference_control.detach().abs().mean()) for name in seen}
    rows = [LayerKernels(name, *each.spread(), each.shapes(), controls[name]) for name, each in seen.items()]
    return own, held, rows


def compare_checkpoint(
    config: Config, checkpoint: str, split: str, console: Console, average: str | None = None
) -> tuple[Scores, Scores, list[LayerKernels]]:
    """:func:`compare_kernels` of a trained model on the split 'val' or 'test' of its config; leaves no files.

    Args:
        config: Of the model.
        checkpoint: Its weights.
        split: 'val' or 'test', of which the scores are.
        console: For the progress.
        average: 'train' for means over one pass through the training images, cropped and flipped as for training.
            Default: None, over the split.

    Raises:
        UserError: As tools/test.py does, or the config has no such split, or the model no ATConv.
    """
    training = config.get('train_dataloader')
    if average == 'train':
        if training is None:
            raise UserError(f"config '{config.filename}' has no train_dataloader; add one, or leave out --average.")
        preflight.check_dataloader(config, 'train_dataloader')
    if split == 'val':
        for part in ('dataloader', 'evaluator'):
            if config.get(f'val_{part}') is None:
                raise UserError(f"config '{config.filename}' has no val_{part}; add one, or give --split test.")
            config[f'test_{part}'] = config[f'val_{part}']
    config.load_from, config.resume, config.launcher = checkpoint, False, 'none'
    set_loader_defaults(config)
    with tempfile.TemporaryDirectory(prefix='mmatconv-') as folder:
        config.work_dir = folder
        preflight.check_testing(config)
        join_processes(config, read_dist_info(config.launcher))
        runner = build_runner(config, TestRunner)
        runner.register_hook(CheckpointGuardHook(checkpoint, exact=True))
        progress = _Progress(console)
        runner.register_hook(progress)

        def evaluate(what: str) -> Scores:
            progress.what = what
            return runner.test()

        see_training = partial(_see_training, runner, training, progress) if average == 'train' else None
        return compare_kernels(runner.model, evaluate, see_training)


@torch.no_grad()
def _see_training(runner: Runner, training: dict[str, Any], progress: '_Progress') -> None:
    """Run the backbone once over every image of a data loader, in evaluation mode."""
    loader = runner.build_dataloader(training, seed=0)
    left = images = len(loader.dataset)
    runner.model.eval()
    for batch in loader:
        # The sampler of a training by iterations has no end, so that its last batch may hold images for a second time.
        maps = runner.model.data_preprocessor(batch)['inputs'][:left]
        runner.model.backbone(maps)
        left -= len(maps)
        progress.show('training images', images - left, images)
        if not left:
            return


class _Progress(Hook):
    what = ''

    def __init__(self, console: Console) -> None:
        self.console = console

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.show(self.what, batch_idx + 1, len(runner.test_dataloader))

    def show(self, what: str, done: int, total: int) -> None:
        if self.console.wants_progress():
            self.console.progress(f'{what}: {done}/{total}', due=done > 1)
