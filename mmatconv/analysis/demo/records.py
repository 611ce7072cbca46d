"""What predictions.json says of an image."""

from typing import Any

import numpy as np
from mmengine.structures import BaseDataElement
from pycocotools import mask as run_lengths

from mmatconv.errors import UserError

TOP = 5


def record(sample: BaseDataElement, classes: list[str], threshold: float) -> dict[str, Any]:
    """The predictions on one image.

    Args:
        sample: As the model's package gives it.
        classes: Their names.
        threshold: Detections of a lower score are left out.

    Returns:
        ``detections`` of a detector: label, class (its name), score, box (x1, y1, x2, y2 in pixels of the image) and,
        where the model predicts it, mask as COCO's run lengths. ``pixels`` of a segmentor: how many each class has.
        ``top5`` of a classifier: label, class and score, the most likely first.

    Raises:
        UserError: The model predicts something else.
    """
    if 'pred_instances' in sample:
        return dict(detections=_detections(sample.pred_instances, classes, threshold))
    if 'pred_sem_seg' in sample:
        labels, counts = np.unique(class_map(sample), return_counts=True)
        return dict(pixels={classes[label]: int(count) for label, count in zip(labels, counts)})
    if 'pred_score' in sample:
        scores, labels = sample.pred_score.topk(min(TOP, len(sample.pred_score)))
        return dict(top5=[_named(int(label), float(score), classes) for score, label in zip(scores, labels)])
    raise UserError(
        f'this model predicts {", ".join(sample.keys()) or "nothing"}; expected a detector, segmentor or classifier'
    )


def class_map(sample: BaseDataElement) -> np.ndarray:
    """The class of each pixel, (H, W)."""
    labels = sample.pred_sem_seg.data[0].numpy()
    return labels.astype(np.uint8 if labels.max() < 256 else np.uint16)


def _detections(instances: BaseDataElement, classes: list[str], threshold: float) -> list[dict[str, Any]]:
    # As the visualizers draw them.
    instances = instances[instances.scores > threshold]
    found = []
    for index, (label, score) in enumerate(zip(instances.labels.tolist(), instances.scores.tolist())):
        entry = _named(label, score, classes)
        entry['box'] = [round(value, 2) for value in instances.bboxes[index].tolist()]
        if 'masks' in instances:
            mask = run_lengths.encode(np.asfortranarray(np.asarray(instances.masks[index], dtype=np.uint8)))
            entry['mask'] = dict(size=mask['size'], counts=mask['counts'].decode())
        found.append(entry)
    return found


def _named(label: int, score: float, classes: list[str]) -> dict[str, Any]:
    return {'label': label, 'class': classes[label], 'score': round(score, 4)}
