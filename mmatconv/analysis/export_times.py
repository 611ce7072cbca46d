"""What an image takes in PyTorch and in the exported file, from pixels to predictions."""

import io
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate

from mmatconv.analysis.benchmark.machine import machine
from mmatconv.analysis.benchmark.timing import interleave, wall_clock
from mmatconv.analysis.checked_export import Say, copy_of
from mmatconv.analysis.demo.model import TrainedModel
from mmatconv.deploy.export.exported_model import ExportedModel
from mmatconv.deploy.folding import fold
from mmatconv.errors import UserError

REPEATS, WARMUP = 7, 2


def export_times(file: Path, config: Config, trained: TrainedModel, inputs: dict[str, Any], say: Say) -> None:
    """Times the model, folded, compiled and exported in turns, and says the rows of a table.

    Compiled is the folded model's way from the image to the feature maps of the neck: the rest depends on data.

    Args:
        file: The exported file.
        config: Of the model.
        trained: The model.
        inputs: What the test pipeline makes of an image.
        say: Tells the user.
    """
    models = {'PyTorch': trained.model}
    try:
        models['folded'] = fold(trained.model)
    except UserError:
        models['folded'] = trained.model  # nothing in it to fold
    models['compiled'] = deepcopy(models['folded'])
    for part in ('backbone', 'neck'):
        if getattr(models['compiled'], part, None) is not None:
            setattr(models['compiled'], part, torch.compile(getattr(models['compiled'], part)))
    models['exported'] = ExportedModel(str(file), trained.model, config.default_scope)
    calls = {name: lambda model=model: _predict(model, inputs) for name, model in models.items()}
    found = interleave(calls, REPEATS, WARMUP, wall_clock)
    weights = io.BytesIO()
    torch.save(trained.model.state_dict(), weights)
    sizes = dict.fromkeys(models, weights.tell()) | dict(exported=file.stat().st_size)
    height, width = inputs['inputs'].shape[1:]
    where = machine('cpu')
    say(f'one image of {height} x {width}, {where["threads"]} threads of {where["cpu"]}, {REPEATS} rounds in turns')
    say('| | size | median | 10 to 90 % |\n|---|---|---|---|')
    for name, times in found.items():
        span = f'{times.p10 * 1e3:.0f} to {times.p90 * 1e3:.0f} ms'
        say(f'| {name} | {sizes[name] / 2**20:.1f} MB | {times.median * 1e3:.0f} ms | {span} |')


@torch.no_grad()
def _predict(model: torch.nn.Module, inputs: dict[str, Any]) -> None:
    model.test_step(pseudo_collate([copy_of(inputs)]))
