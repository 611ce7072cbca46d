"""tools/image_demo.py: reads images, predicts, and writes pictures and predictions.json."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import mmcv
import numpy as np
from mmengine.config import Config
from mmengine.structures import BaseDataElement

from mmatconv.analysis.demo.inputs import Image, Images
from mmatconv.analysis.demo.model import TrainedModel
from mmatconv.analysis.demo.pictures import Painter
from mmatconv.analysis.demo.records import class_map, record

PREDICTIONS, PICTURES, CLASS_MAPS = 'predictions.json', 'pictures', 'class_maps'


def write_predictions(
    images: Images,
    config: Config,
    checkpoint: str,
    folder: Path,
    threshold: float,
    batch_size: int,
    progress: Callable[[Iterable], Iterable],
) -> None:
    """Writes predictions.json, the pictures (a video for a video) and a segmentor's class maps to a folder.

    Args:
        images: What to predict on.
        config: Of the model.
        checkpoint: Path or URL of its weights.
        folder: Where to write.
        threshold: Detections of a lower score are neither drawn nor listed.
        batch_size: How many images of the same shape may be computed together.
        progress: Wraps the images one by one, to show how far it is.

    Raises:
        UserError: An image or the checkpoint cannot be used.
    """
    model = TrainedModel(config, checkpoint)
    painter = Painter(config, model, threshold)
    records = []
    pictures = _Pictures(folder, images)
    try:
        for image, pixels, sample in _predict(model, progress(images), batch_size):
            height, width = pixels.shape[:2]
            entry = dict(image=image.name, width=width, height=height, **record(sample, model.classes, threshold))
            if 'pred_sem_seg' in sample:
                name = f'{CLASS_MAPS}/{image.name}' + ('' if image.name.lower().endswith('.png') else '.png')
                mmcv.imwrite(class_map(sample), str(folder / name))
                entry['class_map'] = name
            records.append(entry)
            pictures.add(image, painter.draw(image.name, pixels, sample))
    finally:
        pictures.close()
    content = dict(
        config=str(config.filename), checkpoint=checkpoint, threshold=threshold, classes=model.classes, images=records
    )
    (folder / PREDICTIONS).write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')


def _predict(
    model: TrainedModel, images: Iterable[Image], batch_size: int
) -> Iterator[tuple[Image, np.ndarray, BaseDataElement]]:
    batch: list[tuple[Image, np.ndarray, dict[str, Any]]] = []
    for image in images:
        pixels, inputs = model.read(image)
        # Segmentors refuse other shapes in a batch, and padding would change what others predict.
        if len(batch) == batch_size or (batch and batch[0][2]['inputs'].shape != inputs['inputs'].shape):
            yield from _finish(model, batch)
            batch = []
        batch.append((image, pixels, inputs))
    yield from _finish(model, batch)


def _finish(model: TrainedModel, batch: list) -> Iterator[tuple[Image, np.ndarray, BaseDataElement]]:
    if batch:
        samples = model.predict([inputs for _, _, inputs in batch])
        yield from ((image, pixels, sample) for (image, pixels, _), sample in zip(batch, samples))


class _Pictures:
    """A file for each image, or one video."""

    def __init__(self, folder: Path, images: Images) -> None:
        self._folder = folder
        self._images = images
        self._writer: cv2.VideoWriter | None = None

    def add(self, image: Image, picture: np.ndarray) -> None:
        picture = mmcv.rgb2bgr(picture)
        if not self._images.is_video:
            mmcv.imwrite(picture, str(self._folder / PICTURES / image.name))
            return
        if self._writer is None:
            path = self._folder / f'{self._images.path.stem}.mp4'
            size = picture.shape[1::-1]
            self._writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), self._images.fps, size)
        self._writer.write(picture)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.release()
