"""Whether an exported file predicts what the model predicts."""

from dataclasses import dataclass

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor

# The largest difference of scores before any choice, by their largest; and of detections.
FEATURES, OVERLAP, SCORE = 1e-4, 0.99, 1e-3


@dataclass
class Agreement:
    """The result of a comparison.

    Attributes:
        good: Whether the predictions agree.
        summary: What was compared, and by how much it differs.
    """

    good: bool
    summary: str


def compare(expected: BaseDataElement, actual: BaseDataElement, threshold: float, most: int) -> Agreement:
    """Compares what a model and its exported file predict for the same image.

    Args:
        expected: The data sample of the model.
        actual: That of the file.
        threshold: Score below which a detector leaves boxes out. A detection within 0.001 of it may be in one alone.
        most: Boxes that a detector keeps; where there are as many, the same holds of the last ones.
    """
    if 'pred_instances' in expected:
        return _of_detections(expected.pred_instances, actual.pred_instances, threshold, most)
    if 'seg_logits' in expected:
        return _of_values(expected.seg_logits.data, actual.seg_logits.data, 'logits of every pixel')
    return _of_values(expected.pred_score, actual.pred_score, 'class scores')


def _of_values(expected: Tensor, actual: Tensor, name: str) -> Agreement:
    if expected.shape != actual.shape:
        return Agreement(False, f'{name} are {tuple(actual.shape)}, expected {tuple(expected.shape)}')
    difference = float((expected - actual).abs().max() / expected.abs().max())
    return Agreement(difference <= FEATURES, f'{name} differ by {difference:.1e} of the largest')


def _of_detections(expected: BaseDataElement, actual: BaseDataElement, threshold: float, most: int) -> Agreement:
    least = max([threshold, *(float(side.scores.min()) for side in (expected, actual) if len(side) >= most > 0)])
    total = lost = 0
    overlaps = [1.0]
    for one, other in ((expected, actual), (actual, expected)):
        sure = one[one.scores > least + SCORE]
        total += len(sure)
        for detection in (sure[index] for index in range(len(sure))):
            overlap = _best_overlap(detection, other)
            lost += overlap < OVERLAP
            overlaps.append(overlap)
    summary = (
        f'{len(expected)} and {len(actual)} detections; of {total} whose score is not at the limit, {total - lost} are '
        f'in the other with the same class, the score within {SCORE} and an overlap of {OVERLAP}'
    )
    return Agreement(lost == 0, summary)


def _best_overlap(detection: BaseDataElement, others: BaseDataElement) -> float:
    """The overlap with the best detection of the same class and score, of box and mask; 0 if there is none."""
    others = others[(others.labels == detection.labels) & ((others.scores - detection.scores).abs() <= SCORE)]
    if not len(others):
        return 0.0
    first = torch.maximum(others.bboxes[:, :2], detection.bboxes[:, :2])
    last = torch.minimum(others.bboxes[:, 2:], detection.bboxes[:, 2:])
    common = (last - first).clamp(min=0).prod(1)
    overlaps = _ratio(common, _area(others.bboxes) + _area(detection.bboxes) - common)
    if 'masks' in detection:
        masks, mask = torch.as_tensor(others.masks), torch.as_tensor(detection.masks)
        either, differing = (masks | mask).sum((1, 2)), (masks ^ mask).sum((1, 2))
        # One pixel is more than a hundredth of a small mask.
        overlaps = torch.minimum(overlaps, _ratio(either - (differing - 1).clamp(min=0), either))
    return float(overlaps.max())


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).prod(1)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Of areas; two that are both empty are the same."""
    return torch.where(whole > 0, part / whole.clamp(min=1e-9), 1.0)
