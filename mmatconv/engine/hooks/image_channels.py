"""Checks that images have the channels the model expects."""

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner

from mmatconv.errors import UserError


class ImageChannelsHook(Hook):
    """Says which image has another number of channels than the model normalises; the preprocessors fail by index."""

    priority = 'VERY_HIGH'

    def _before_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, mode: str = 'train') -> None:
        """Compares the images of a batch with the preprocessor's means.

        Raises:
            UserError: an image has other channels.
        """
        model = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        mean = getattr(getattr(model, 'data_preprocessor', None), 'mean', None)
        images = data_batch.get('inputs') if isinstance(data_batch, Mapping) else None
        if not isinstance(mean, torch.Tensor) or mean.numel() == 1 or not isinstance(images, list | torch.Tensor):
            return
        for image, sample in zip(images, data_batch.get('data_samples') or [None] * len(images)):
            if isinstance(image, torch.Tensor) and image.dim() == 3 and image.shape[0] != mean.numel():
                path = getattr(sample, 'img_path', 'an image')
                raise UserError(
                    f"'{path}' is loaded with {tuple(image.shape)} values (channels, height, width), but the model "
                    f'expects {mean.numel()} channels; convert the image, or change LoadImageFromFile, '
                    'model.data_preprocessor and model.backbone.in_channels together'
                )
