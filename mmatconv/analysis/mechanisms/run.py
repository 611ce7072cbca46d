"""What tools/analysis_tools/routing.py and inhibition.py do with their images."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmatconv.analysis.demo.inputs import Image, Images
from mmatconv.analysis.demo.model import TrainedModel
from mmatconv.analysis.mechanisms.figures import draw_depth, draw_kernels, draw_routing
from mmatconv.analysis.mechanisms.inhibition import (
    centre_surround_contrast,
    channel_effective_rank,
    suppression,
    without_modulation,
)
from mmatconv.analysis.mechanisms.layers import Recorded, bare_layers, features, read_image
from mmatconv.analysis.mechanisms.routing import positions_of, route
from mmatconv.errors import UserError
from mmatconv.layers import ATConv, initialize

Progress = Callable[[Iterable], Iterable]
SEED = 0


def write_routing(
    images: Images,
    folder: Path,
    model: TrainedModel | None,
    place: tuple[int, int] | None,
    names: Sequence[str],
    options: dict[str, Any],
    progress: Progress,
) -> list[dict[str, Any]]:
    """Draw a figure for each image, and collect the numbers of all in routing.json.

    Args:
        images: What to look at.
        folder: Where to write.
        model: Default: None, bare layers alone.
        place: Stage and block of its token mixer; None without a model.
        names: Bare layers beside it.
        options: ``size`` of the image and ``dim`` without a model; ``positions``, a side; ``radius``, a share of the
            shorter side of the map.
        progress: Wraps the images one by one.

    Returns:
        One row for each image and layer.
    """
    recorded = None if model is None else Recorded(model, [place])
    rows = []
    for image in progress(images):
        layers: dict[str, nn.Module] = {}
        if recorded is None:
            pixels = read_image(image, options['size'])
            x = features(pixels, options['dim'], SEED)
        else:
            pixels, inputs = recorded.inputs(image)
            x = inputs[place]
            mixer = recorded.mixers[place]
            layers[f'{type(mixer).__name__} {place[0]}.{place[1]}, trained'] = mixer
        layers |= {name: layer.to(x) for name, layer in bare_layers(names, x.shape[1], x.shape[2:], SEED).items()}
        positions = positions_of(x.shape[2:], options['positions'])
        radius = options['radius'] * min(x.shape[2:])
        routings = {label: route(layer, x, positions, radius) for label, layer in layers.items()}
        responses = {label: suppression(layer, x, positions).cpu() for label, layer in layers.items()}
        footer = (
            f'{image.name}; map {tuple(x.shape[1:])}; {len(positions)} positions; FAR beyond {radius:.0f} of its '
            'pixels; untrained layers have fan-in-scaled weights'
        )
        draw_routing(pixels, routings, responses, _picture(folder, image, 'routing'), footer)
        rows += [
            dict(
                image=image.name,
                layer=label,
                far=routing.mean_far,
                diversity=routing.diversity,
                suppression=float(responses[label].mean()),
            )
            for label, routing in routings.items()
        ]
    (folder / 'routing.json').write_text(json.dumps(rows, indent=2))
    return rows


@torch.no_grad()
def write_inhibition(
    images: Images, folder: Path, model: TrainedModel | None, options: dict[str, Any], progress: Progress
) -> list[dict[str, Any]]:
    """Draw contrast and rank over depth, the mean of all images, and the kernels of each image.

    Args:
        images: What to look at.
        folder: Where to write; inhibition.json with the numbers too.
        model: Default: None, one ATConv with fan-in-scaled weights on features of the image.
        options: ``size`` of the image and ``dim`` without a model, ``sigma`` of the blur.
        progress: Wraps the images one by one.

    Returns:
        One row for each ATConv: ``layer`` (stage.block), ``channels``, ``csc``, ``csc_without``, ``cer``,
        ``cer_without``.
    """
    found: dict[tuple[int, int], list[dict[str, float]]] = {}
    count = 0
    for image, mixers, inputs in _atconvs(images, model, options, progress):
        count += 1
        for place, mixer in mixers.items():
            pair = {'': mixer(inputs[place]), '_without': without_modulation(mixer, inputs[place])}
            figures = {f'csc{key}': centre_surround_contrast(y.float(), options['sigma']) for key, y in pair.items()}
            figures |= {f'cer{key}': channel_effective_rank(y.float()) for key, y in pair.items()}
            found.setdefault(place, []).append(dict(channels=mixer.dim, **figures))
        last = {stage: (stage, block) for stage, block in mixers}
        draw_kernels(
            {_label(place): mixers[place].generate_kernels(inputs[place])[0].float().cpu() for place in last.values()},
            {_label(place): mixers[place].difference_control.sigmoid().float().cpu() for place in last.values()},
            _picture(folder, image, 'kernels'),
            f'{image.name}: kernels that the last ATConv of each stage generates, each by its largest weight',
        )
    rows = [
        dict(layer=_label(place), **{key: sum(each[key] for each in all_of) / len(all_of) for key in all_of[0]})
        for place, all_of in found.items()
    ]
    draw_depth(rows, folder / 'inhibition.png', f'mean of {count} images; the same weights and inputs with lambda = 0')
    (folder / 'inhibition.json').write_text(json.dumps(rows, indent=2))
    return rows


def _atconvs(
    images: Images, model: TrainedModel | None, options: dict[str, Any], progress: Progress
) -> Iterator[tuple[Image, dict[tuple[int, int], ATConv], dict[tuple[int, int], Tensor]]]:
    if model is None:
        if options['dim'] < 1:
            raise UserError(f'--dim {options["dim"]} is not a number of channels; give 1 or more.')
        torch.manual_seed(SEED)
        layer = ATConv(options['dim']).eval()
        initialize(layer, 'live')
        for image in progress(images):
            pixels: np.ndarray = read_image(image, options['size'])
            yield image, {(0, 0): layer}, {(0, 0): features(pixels, options['dim'], SEED)}
        return
    recorded = Recorded(model)
    for image in progress(images):
        yield image, recorded.mixers, recorded.inputs(image)[1]


def _label(place: tuple[int, int]) -> str:
    return f'{place[0]}.{place[1]}'


def _picture(folder: Path, image: Image, kind: str) -> Path:
    path = folder / Path(image.name).with_suffix('')
    path = path.with_name(f'{path.name}_{kind}.png')
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
