"""An exported file in the place of a model, in MMEngine's test loop."""

from typing import Any

import numpy as np
import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement
from torch import Tensor

from mmatconv.deploy.export.exportable import exportable
from mmatconv.deploy.export.runtime import Exported
from mmatconv.errors import UserError


class ExportedModel(BaseModel):
    """Predicts with an exported file, and gives predictions the form of those of the model it was.

    Args:
        file: As tools/deployment/export_onnx.py writes it.
        model: Config of the model. It is built without weights, for what it does to scores, boxes and masks of the
            input's size to bring them to that of the original image.
        scope: Package of the model: 'mmdet', 'mmseg' or 'mmpretrain'.
        data_preprocessor: Of the config, where it is not in ``model``. Default: None.
        kind: As for :class:`Exported`. Default: None.

    Raises:
        UserError: The file is not of such a model.
    """

    def __init__(
        self,
        file: str,
        model: dict | torch.nn.Module,
        scope: str,
        data_preprocessor: dict | None = None,
        kind: str | None = None,
    ) -> None:
        super().__init__()
        self.exported = Exported(file, kind)
        if isinstance(model, dict):
            model = dict(model)
            if data_preprocessor is not None:
                model.setdefault('data_preprocessor', data_preprocessor)
            model = MODELS.build(model)
        self._model = [model]  # out of sight of torch: its weights are not those of the file
        task = exportable(model, scope).task
        if self.exported.task != task:
            raise UserError(f"'{file}' is for {self.exported.task}, but the config is for {task}; name its own config")
        self._finish = {
            'classification': self._classify,
            'segmentation': self._segment,
            'detection': self._detect,
        }[task]

    def test_step(self, data: dict[str, Any]) -> list[BaseDataElement]:
        """Predictions on a batch, image by image."""
        images, samples = data['inputs'], data['data_samples']
        return [self._finish(self.exported(image[None].numpy()), sample) for image, sample in zip(images, samples)]

    def forward(self, *args: Any, **options: Any) -> None:
        """Not there: an exported model is not trained."""
        raise NotImplementedError

    def _classify(self, outputs: dict[str, np.ndarray], sample: BaseDataElement) -> BaseDataElement:
        return self._model[0].head._get_predictions(torch.from_numpy(outputs['logits']), [sample])[0]

    def _segment(self, outputs: dict[str, np.ndarray], sample: BaseDataElement) -> BaseDataElement:
        return self._model[0].postprocess_result(torch.from_numpy(outputs['logits']), [sample])[0]

    def _detect(self, outputs: dict[str, np.ndarray], sample: BaseDataElement) -> BaseDataElement:
        from mmengine.structures import InstanceData

        found = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in outputs.items()}
        scale = found['boxes'].new_tensor(sample.get('scale_factor', (1.0, 1.0))).repeat(2)
        predictions = InstanceData(bboxes=found['boxes'] / scale, scores=found['scores'], labels=found['labels'])
        if 'masks' in found:
            predictions.masks = self._paste(found['masks'], predictions.bboxes, sample)
        sample.pred_instances = predictions
        return sample

    def _paste(self, masks: Tensor, boxes: Tensor, sample: BaseDataElement) -> Tensor:
        """Probabilities (N, S, S) over the area of each box -> (N, H, W), boolean, as mmdet pastes them."""
        from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask

        threshold = self._model[0].roi_head.test_cfg.mask_thr_binary
        height, width = sample.ori_shape[:2]
        pasted = torch.zeros(len(masks), height, width, dtype=torch.bool)
        for place, (mask, box) in enumerate(zip(masks, boxes)):
            part, window = _do_paste_mask(mask[None, None], box[None], height, width, skip_empty=True)
            pasted[(slice(place, place + 1), *window)] = part >= threshold
        return pasted
