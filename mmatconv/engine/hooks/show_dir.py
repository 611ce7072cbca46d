"""tools/test.py --show-dir: a picture of every prediction."""

import os
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement

from mmatconv.engine.checks.damaged_files import leaves
from mmatconv.engine.hooks.one_writer import OwnSamples
from mmatconv.errors import UserError
from mmatconv.openmmlab.visualizer import every_process_draws

# Boxes and masks below it are not drawn.
SCORE_THRESHOLD = 0.3


class ShowDirHook(Hook):
    """Writes a picture of every test image, the prediction beside the ground truth where the pipeline loads one.

    The packages' own hooks draw the first process's images only, and each spells its options differently.

    Args:
        folder: where the pictures go, each under its image's path below the folder of the data set's images.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def before_test_epoch(self, runner: Runner) -> None:
        """Tells the visualizer of every process the classes and colours."""
        self._own = OwnSamples(runner.test_dataloader)
        self._images = image_folder(runner.test_dataloader.dataset)
        with every_process_draws():
            runner.visualizer.dataset_meta = runner.test_dataloader.dataset.metainfo

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: dict, outputs: list[BaseDataElement]) -> None:
        """Draws the batch.

        Raises:
            UserError: a picture would replace an image of the data set.
        """
        for index, sample in self._own.of(enumerate(outputs)):
            path = sample.get('img_path')
            if path is None:
                image = data_batch['inputs'][index].permute(1, 2, 0).cpu().numpy().astype(np.uint8)
                name = f'{batch_idx:06d}_{runner.rank}_{index}.png'
            else:
                image = mmcv.imread(path, channel_order='rgb')
                name = picture_name(path, self._images)
            target = self.folder / name
            if path is not None and target.resolve() == Path(path).resolve():
                raise UserError(f"--show-dir '{self.folder}' holds the data set's own images; choose another folder")
            with every_process_draws():
                _draw(runner.visualizer, name, image, sample, str(target))


def image_folder(dataset: Any) -> str | None:
    """The folder below which all images of a data set, and of those it wraps, lie; None where it is not known."""
    prefixes = [getattr(leaf, 'data_prefix', None) or {} for leaf in leaves(dataset)]
    folders = {prefix.get('img_path') or prefix.get('img') for prefix in prefixes}
    return os.path.commonpath(map(os.path.abspath, folders)) if folders and all(folders) else None


def picture_name(path: str, images: str | None) -> str:
    """The path of an image below the folder `images`; of one that lies elsewhere, its whole path without the root."""
    path = os.path.abspath(path)
    if images is not None and os.path.commonpath([path, images]) == images:
        return os.path.relpath(path, images)
    return str(Path(*Path(path).parts[1:]))


def _draw(visualizer: Any, name: str, image: np.ndarray, sample: BaseDataElement, file: str) -> None:
    if hasattr(visualizer, 'visualize_cls'):
        visualizer.visualize_cls(image, sample, name=name, out_file=file)
    else:
        threshold = dict(pred_score_thr=SCORE_THRESHOLD) if 'pred_instances' in sample else {}
        visualizer.add_datasample(name, image, data_sample=sample, out_file=file, **threshold)
