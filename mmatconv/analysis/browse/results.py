"""What tools/test.py --out wrote, with the config and the data set that it belongs to."""

import io
import math
import pickle
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, TRANSFORMS, init_default_scope

from mmatconv.analysis.demo.model import colours_of
from mmatconv.checkpoint.weights_only import listed_names_only, load_weights_only
from mmatconv.engine.checks import preflight
from mmatconv.engine.cli.options import register_modules
from mmatconv.errors import UserError


@dataclass
class Results:
    """Predictions and ground truth.

    Attributes:
        classes: Names.
        palette: A colour for each class, RGB from 0 to 255.
        predictions: As the package's data samples, by the path of the image.
        infos: What the data set knows of each image that has a prediction, in its order.
        load_labels: Of a segmentor: adds ``gt_seg_map`` to an info. None of a detector.
    """

    classes: list[str]
    palette: list[tuple[int, ...]]
    predictions: dict[str, dict[str, Any]]
    infos: list[dict[str, Any]]
    load_labels: Any


def find_files(source: Path, config: str | None = None) -> tuple[Path, Path | str]:
    """The predictions and the config behind a file of predictions or a work dir.

    Args:
        source: What ``tools/test.py --out`` wrote, or a folder with such a file and the config that the tools keep.
        config: The config's name where it is known. Default: None.

    Raises:
        UserError: There is no such file, or no config beside it or in the folders above.
    """
    if not source.exists():
        raise UserError(f"'{source}' does not exist; name the file that tools/test.py --out wrote, or a work dir.")
    if source.is_dir():
        found = sorted((*source.rglob('*.pkl'), *source.rglob('*.pickle')), key=lambda path: path.stat().st_mtime)
        if not found:
            raise UserError(
                f"'{source}' holds no predictions; run tools/test.py CONFIG CHECKPOINT --out {source}/predictions.pkl."
            )
        source = found[-1]
    if config is not None:
        return source, config
    for folder in source.resolve().parents[:3]:
        # Training keeps it in the work dir, testing beside its log.
        for pattern in ('*.py', '*/vis_data/config.py'):
            if configs := sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime):
                return source, configs[-1]
    raise UserError(f"there is no config beside '{source}'; name it with --config.")


def read_predictions(path: Path) -> list[dict[str, Any]]:
    """The list of predictions in a file, read as data and never as code.

    Raises:
        UserError: It is damaged, or holds something else.
    """

    class Unpickler(listed_names_only().Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            # Plain pickles hold a tensor as the bytes of a torch file.
            if (module, name) == ('torch.storage', '_load_from_bytes'):
                return lambda content: load_weights_only(torch.load, io.BytesIO(content), map_location='cpu')
            return super().find_class(module, name)

    try:
        if zipfile.is_zipfile(path):
            raise pickle.UnpicklingError('it is a checkpoint, or another zip file')
        with path.open('rb') as file:
            content = Unpickler(file).load()
    except Exception as error:  # damaged bytes raise all kinds
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise UserError(
            f"'{path}' is not a file of predictions ({reason}); write one with tools/test.py --out FILE."
        ) from None
    if not isinstance(content, list) or not content or not all(isinstance(each, dict) for each in content):
        raise UserError(f"'{path}' holds no list of predictions; write one with tools/test.py --out FILE.")
    return content


def load_results(path: Path, config: Config) -> Results:
    """Predictions with the ground truth of the config's test data.

    Raises:
        UserError: Predictions of neither a detector nor a segmentor, or of images that the test data do not have.
    """
    predictions = read_predictions(path)
    kind = next((key for key in ('pred_instances', 'pred_sem_seg') if key in predictions[0]), None)
    if kind is None or 'img_path' not in predictions[0]:
        raise UserError(
            f"'{path}' holds {', '.join(map(str, predictions[0]))}; expected predictions of a detector or segmentor."
        )
    register_modules(config)
    init_default_scope(config.default_scope)
    of_image = {str(each['img_path']): each for each in predictions}
    infos: list[dict[str, Any]] = []
    first: Any = None
    pipeline: list[dict] = []
    for _, settings in preflight.leaf_datasets(config.test_dataloader.dataset, 'test_dataloader.dataset'):
        pipeline = pipeline or list(settings.get('pipeline', ()))
        with DATASETS.switch_scope_and_registry(None) as registry:
            dataset = registry.build({**settings, 'pipeline': [], 'lazy_init': False, 'test_mode': True})
        first = first or dataset
        infos += [info for info in _infos(dataset) if str(info['img_path']) in of_image]
    if len(infos) < len(of_image):
        missing = next(iter(set(of_image) - {str(info['img_path']) for info in infos}))
        raise UserError(f"'{path}' has predictions on '{missing}', which the config's test data do not have; check it.")
    load_labels = None
    if kind == 'pred_sem_seg':
        steps = [step for step in pipeline if str(step['type']).rpartition('.')[2] == 'LoadAnnotations']
        if not steps:
            raise UserError("the config's test pipeline has no LoadAnnotations, so there is no ground truth to show.")
        load_labels = TRANSFORMS.build(steps[0])
    classes = [str(name) for name in first.metainfo['classes']]
    palette = first.metainfo.get('palette')
    return Results(classes, colours_of(len(classes), palette), of_image, infos, load_labels)


def percent(share: float) -> float | None:
    """A share in percent with one digit, None for not a number."""
    return None if math.isnan(share) else round(100 * float(share), 1)


def _infos(dataset: Any) -> Iterator[dict[str, Any]]:
    for index in range(len(dataset)):
        yield dataset.get_data_info(index)
