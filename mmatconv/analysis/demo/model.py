"""A trained model of any of the three packages, from the file of an image to its predictions.

The packages' inferencers differ in what they need and return, load whatever fits of a checkpoint, and find their
package under upstream's name only; what the three have in common is MMEngine's.
"""

import colorsys
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DATASETS, TRANSFORMS, init_default_scope
from mmengine.structures import BaseDataElement
from torch import nn

from mmatconv.analysis.build_model import build_model, load_trained_weights
from mmatconv.analysis.demo.inputs import Image
from mmatconv.engine.checks import preflight
from mmatconv.engine.checks.damaged_files import find_damage
from mmatconv.engine.cli.options import VISUALIZERS
from mmatconv.errors import UserError


class TrainedModel:
    """A detector, segmentor or classifier with the weights of a checkpoint, on the GPU where there is one.

    Args:
        config: With ``model``, ``test_dataloader`` and ``default_scope``.
        checkpoint: Path or URL.

    Attributes:
        classes: A name for each class: of the checkpoint, else of the config's data set, else 'class N'.
        palette: A colour for each class, RGB from 0 to 255.

    Raises:
        UserError: The config is of another package or has no test pipeline, or the checkpoint is of another model.
    """

    def __init__(self, config: Config, checkpoint: str) -> None:
        if config.get('default_scope') not in VISUALIZERS or config.get('test_dataloader') is None:
            raise UserError(
                f"config '{config.filename}' is not a complete config of {', '.join(VISUALIZERS)}: it needs a "
                'default_scope and a test_dataloader'
            )
        config = deepcopy(config)
        if config.get('data_preprocessor') and config.get('model'):
            config.model.setdefault('data_preprocessor', config.data_preprocessor)
        self.model = build_model(config, 'cpu')
        content = load_trained_weights(self.model, checkpoint)
        init_default_scope(config.default_scope)
        _, dataset = next(preflight.leaf_datasets(config.test_dataloader.dataset, ''))
        load, *steps = [step for place, step in enumerate(dataset.pipeline) if place == 0 or not _loads(step)]
        self._load, self._prepare = TRANSFORMS.build(load), Compose(steps)
        meta = content.get('meta')
        self.classes, self.palette = _classes(self.model, meta if isinstance(meta, dict) else {}, dataset)

    def read(self, image: Image) -> tuple[np.ndarray, dict[str, Any]]:
        """Reads an image as in testing.

        Returns:
            Its pixels, (H, W, 3) in RGB, and what :meth:`predict` takes.

        Raises:
            UserError: It is not an image or is damaged.
        """
        results = dict(img_path=str(image.path), img_id=0)
        if image.frame is not None:
            shape = image.frame.shape[:2]
            results.update(img=image.frame, img_shape=shape, ori_shape=shape)
        else:
            try:
                results = self._load(results)
            except Exception as error:
                damage = find_damage(self._load, results, error)
                if damage is None:
                    raise
                raise UserError(f"'{damage[0]}' {damage[1]}; repair or remove it") from error
        pixels = results['img']
        if pixels.ndim == 2 or pixels.shape[2] == 1:
            pixels = np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=2)
        return np.ascontiguousarray(pixels[..., 2::-1].astype(np.uint8)), self._prepare(results)

    @torch.no_grad()
    def predict(self, inputs: Sequence[dict[str, Any]]) -> list[BaseDataElement]:
        """The packages' data samples, on the CPU, of inputs of equal shape."""
        return [sample.cpu() for sample in self.model.test_step(pseudo_collate(list(inputs)))]


def _loads(step: dict) -> bool:
    kind = step['type'] if isinstance(step['type'], str) else step['type'].__name__
    return kind.rpartition('.')[2].startswith('Load')


def _classes(model: nn.Module, meta: dict, dataset: dict) -> tuple[list[str], list[tuple[int, ...]]]:
    """Names and colours, from the checkpoint's meta before the data set of the config."""
    known = [meta.get('dataset_meta'), meta, dataset.get('metainfo'), getattr(_class_of(dataset), 'METAINFO', None)]
    known = [{str(key).lower(): value for key, value in each.items()} for each in known if isinstance(each, dict)]
    count = max((module.num_classes for module in model.modules() if _counts(module)), default=0)
    names = next((list(each['classes']) for each in known if isinstance(each.get('classes'), list | tuple)), [])
    colours = next((each['palette'] for each in known if isinstance(each.get('palette'), list | tuple)), [])
    names += [f'class {index}' for index in range(len(names), count)]
    return [str(name) for name in names], colours_of(len(names), colours)


def colours_of(count: int, palette: Any) -> list[tuple[int, ...]]:
    """A colour for each of ``count`` classes, RGB up to 255: the palette's if it has enough, else hues far apart."""
    if not isinstance(palette, list | tuple) or len(palette) < count:
        hues = [index * 0.618 % 1 for index in range(count)]  # the golden ratio keeps neighbours apart
        palette = [[round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.85, 0.95)] for hue in hues]
    return [tuple(int(part) for part in colour) for colour in palette[:count]]


def _class_of(dataset: dict) -> type | None:
    if not isinstance(dataset['type'], str):
        return dataset['type']
    with DATASETS.switch_scope_and_registry(None) as registry:  # that of the default scope
        return registry.get(dataset['type'])


def _counts(module: nn.Module) -> bool:
    return isinstance(getattr(module, 'num_classes', None), int)
