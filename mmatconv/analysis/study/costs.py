"""What each competitor costs: parameters, multiply-adds, time of a training step and of an image."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn

from mmatconv.analysis.benchmark.timing import interleave, stopwatch
from mmatconv.analysis.build_model import build_model, quiet
from mmatconv.analysis.complexity.config_complexity import count_config
from mmatconv.analysis.study.protocol import Run, Study
from mmatconv.engine.runner.runner import Runner


@dataclass(frozen=True)
class Cost:
    """Of one competitor, whole model.

    Attributes:
        params: Parameters.
        macs: Multiply-adds of an image of the study's size.
        step: Seconds of a training step on a batch of the study.
        image: Seconds of an image of the test split, from the decoded image to the prediction.
    """

    params: int
    macs: int
    step: float
    image: float


def measure_costs(
    study: Study, names: Iterable[str], repeats: int = 10, tick: Callable[[], None] = lambda: None
) -> dict[str, Cost]:
    """Count every competitor, and time all of them in turns, in one process and on the same images.

    Args:
        study: The protocol.
        names: Competitors.
        repeats: Readings of each.
        tick: Called after every reading, ``2 * repeats`` times for each competitor.
    """
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    configs = {name: study.config_of(Run(name, study.learning_rates[0], study.seeds[0])) for name in names}
    if not configs:
        return {}
    counts = {}
    with quiet():
        for name, config in configs.items():
            counts[name] = count_config(config, study.image_size)[2]
        steps, images = _calls(configs, device)
    times = {
        kind: interleave(calls, repeats, 2, stopwatch(device), tick)
        for kind, calls in dict(step=steps, image=images).items()
    }
    return {
        name: Cost(counts[name].params, counts[name].macs, times['step'][name].median, times['image'][name].median)
        for name in configs
    }


def _calls(configs: Mapping[str, Config], device: str) -> tuple[dict[str, Callable], dict[str, Callable]]:
    """A training step and a prediction of every competitor."""
    first = next(iter(configs.values()))
    with DefaultScope.overwrite_default_scope(first.get('default_scope')):
        batch, image = (
            next(iter(Runner.build_dataloader(loader, seed=0)))
            for loader in (first.train_dataloader, first.test_dataloader)
        )
    steps, images = {}, {}
    for name, config in configs.items():
        # A model of its own for each: one that is trained now and then is in neither mode when it is timed.
        training, predicting = (build_model(config, 'cpu').to(device) for _ in range(2))
        steps[name] = _step(training.train(), config, batch)
        images[name] = _predict(predicting.eval(), image)
    return steps, images


def _step(model: nn.Module, config: Config, batch: dict) -> Callable[[], object]:
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    for group in wrapper.optimizer.param_groups:
        # Costs what any other costs, and every reading is of the same weights.
        group['lr'] = 0.0

    def step() -> object:
        with torch.enable_grad():
            return model.train_step(batch, wrapper)

    return step


def _predict(model: nn.Module, batch: dict) -> Callable[[], object]:
    def predict() -> object:
        with torch.inference_mode():
            return model.test_step(batch)

    return predict
