"""How much padding changes generated kernels and detections, with and without ``mask_padding``."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from mmatconv.analysis.build_model import build_model, load_trained_weights, quiet
from mmatconv.analysis.demo.inputs import IMAGES
from mmatconv.analysis.mechanisms.generated_kernels import changed_kernels
from mmatconv.errors import UserError

# A detection counts as found again with the same class, this overlap, and a score that differs by no more than this.
OVERLAP, SCORE = 0.9, 0.05


@dataclass
class Change:
    """What padding did to an image.

    Attributes:
        name: File name of the image.
        size: Its height and width in pixels, as the model gets it.
        kernels: Relative change of the generated kernels, the mean over the layers.
        detections: Number of detections above the threshold in the image alone.
        found: How many of them are found again in the batch.
        score: Largest change of the score of one found again.
    """

    name: str
    size: tuple[int, int]
    kernels: float
    detections: int
    found: int
    score: float


def image_files(folder: str, count: int) -> list[Path]:
    """The first images of a folder by name.

    Raises:
        UserError: There is no folder or no image in it.
    """
    if not Path(folder).is_dir():
        raise UserError(f"'{folder}' is not a folder; name one with images, for example data/coco/val2017.")
    files = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in IMAGES)[:count]
    if not files:
        raise UserError(f"folder '{folder}' holds no image; expected files ending in {', '.join(sorted(IMAGES))}.")
    return files


def load_model(config: Config, checkpoint: str, mask_padding: bool) -> nn.Module:
    """The detector with its weights, in evaluation mode.

    Raises:
        UserError: Its backbone is not one of mmatconv's, or the weights cannot be read or do not fit.
    """
    kind = str(config.model.backbone.type)
    if kind.rpartition('.')[2] not in ('AttNet', 'ATConvPVT', 'ATConvSwin'):
        raise UserError(f'the study needs a backbone of mmatconv, but the config has {kind}; choose another config.')
    config = config.copy()
    config.model.backbone.update(mask_padding=mask_padding, init_cfg=None)
    with quiet():
        model = build_model(config, 'cpu')
        load_trained_weights(model, checkpoint)
    return model


def study(model: nn.Module, config: Config, files: Sequence[Path], pad: float, threshold: float) -> Iterator[Change]:
    """Each image alone, and with an empty image in its batch that is higher and wider by the share ``pad``.

    Args:
        model: A detector.
        config: Its config, for the test pipeline.
        files: Images.
        pad: The share.
        threshold: Score from which a detection counts.

    Yields:
        What changed, image by image.
    """
    with DefaultScope.overwrite_default_scope(config.get('default_scope')):
        steps = [step for step in config.test_dataloader.dataset.pipeline if step['type'] != 'LoadAnnotations']
        pipeline = Compose(steps)
        for file in files:
            data = pipeline(dict(img_path=str(file), img_id=0))
            height, width = data['inputs'].shape[1:]
            # Not zero after normalisation, so that it is not taken for padding.
            companion = dict(
                inputs=torch.full((3, round(height * (1 + pad)), round(width * (1 + pad))), 7, dtype=torch.uint8),
                data_samples=data['data_samples'].clone(),
            )
            alone, kernels = _run(model, [data])
            together, padded_kernels = _run(model, [data, companion])
            differences = [float((b[:1] - a).norm() / a.norm()) for a, b in zip(kernels, padded_kernels)]
            change = sum(differences) / len(differences)
            yield Change(file.name, (height, width), change, *_compare(alone, together, threshold))


def _run(model: nn.Module, batch: list[dict]) -> tuple[object, list[Tensor]]:
    """Detections in the first image, and the kernels of all ATConv layers."""
    samples = [entry['data_samples'].clone() for entry in batch]
    kernels: list[Tensor] = []

    def keep(_: str, generated: Tensor) -> Tensor:
        kernels.append(generated)
        return generated

    with torch.no_grad(), changed_kernels(model, keep):
        data = model.data_preprocessor(dict(inputs=[entry['inputs'] for entry in batch], data_samples=samples), False)
        found = model(**data, mode='predict')[0].pred_instances
    return found, kernels


def _compare(alone: object, together: object, threshold: float) -> tuple[int, int, float]:
    """Number of detections alone, how many of them are there in the batch, and their largest change of score."""
    from torchvision.ops import box_iou

    alone = alone[alone.scores >= threshold]
    same = box_iou(alone.bboxes, together.bboxes) >= OVERLAP
    same &= alone.labels[:, None] == together.labels
    difference = (alone.scores[:, None] - together.scores).abs().masked_fill(~same, float('inf'))
    if not difference.numel():
        return len(alone), 0, 0.0
    nearest = difference.min(dim=1).values
    nearest = nearest[nearest <= SCORE]
    return len(alone), len(nearest), float(nearest.max()) if len(nearest) else 0.0
