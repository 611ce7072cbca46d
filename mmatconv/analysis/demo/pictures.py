"""Predictions drawn over their image, by the visualizer of the model's package."""

from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import VISUALIZERS
from mmengine.structures import BaseDataElement

from mmatconv.analysis.demo.model import TrainedModel
from mmatconv.engine.cli.options import set_visualizer


class Painter:
    """Draws boxes and translucent masks, class maps, or the most likely class.

    Args:
        config: Of the model; its ``visualizer`` is used.
        model: Gives names and colours of the classes.
        threshold: Boxes and masks of a lower score are not drawn.
    """

    def __init__(self, config: Config, model: TrainedModel, threshold: float) -> None:
        set_visualizer(config)
        self._visualizer: Any = VISUALIZERS.build({**config.visualizer, 'name': 'image_demo', 'vis_backends': None})
        self._visualizer.dataset_meta = dict(classes=model.classes, palette=model.palette)
        self._threshold = threshold

    def draw(self, name: str, pixels: np.ndarray, sample: BaseDataElement) -> np.ndarray:
        """The picture (H, W, 3) of an image (H, W, 3), both in RGB."""
        if 'pred_instances' in sample or 'pred_sem_seg' in sample:
            options = dict(pred_score_thr=self._threshold) if 'pred_instances' in sample else {}
            self._visualizer.add_datasample(name, pixels, data_sample=sample, draw_gt=False, **options)
        else:
            self._visualizer.visualize_cls(pixels, sample, draw_gt=False, name=name)
        return self._visualizer.get_image()
