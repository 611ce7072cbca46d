"""Detections and instances: the figures of COCO for each class, matches, and shapes to draw."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as run_lengths
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmatconv.analysis.browse.results import Results, percent

# A prediction counts as found, and enters the confusion matrix, from this score and overlap on.
SCORE, OVERLAP = 0.3, 0.5
# Corners of outlines are moved by no more than this, in pixels.
OUTLINE_TOLERANCE = 1.0


def summarise(results: Results) -> dict[str, Any]:
    """What the page shows of a detector.

    Returns:
        ``table`` (a row for each class: AP, AP50, recall, how many), ``curves`` (recall and precision at an overlap of
        0.5), ``confusion`` (true by predicted class, the last one background), ``images``, ``metric`` and ``columns``.
    """
    masks = any('masks' in each['pred_instances'] for each in results.predictions.values())
    images = [_image(results, number, info, masks) for number, info in enumerate(results.infos)]
    evaluation = _evaluate(results, images, 'segm' if masks else 'bbox')
    precision = evaluation.eval['precision'][:, :, :, 0, -1]  # overlap, recall, class
    counts = len(results.classes)
    confusion = np.zeros((counts + 1, counts + 1), dtype=int)
    for image in images:
        _match(image, confusion, masks)
    rows, curves = [], []
    for index, name in enumerate(results.classes):
        there = precision[:, :, index]
        known = there.min() > -1
        truths = sum(each['label'] == index for image in images for each in image['gt'])
        found = int(confusion[index, index])
        rows.append(
            [
                name,
                percent(there.mean()) if known else None,
                percent(there[0].mean()) if known else None,
                percent(found / truths) if truths else None,
                truths,
                sum(each['label'] == index and each['score'] >= SCORE for image in images for each in image['pred']),
            ]
        )
        recalls = evaluation.params.recThrs[::5]
        curves.append(
            [[round(float(r), 2), round(float(p), 4)] for r, p in zip(recalls, there[0][::5])] if known else []
        )
    whole = precision[precision > -1]
    for image in images:
        for each in (*image['gt'], *image['pred']):
            each['outlines'] = _outlines(each.pop('rle')) if masks else []
    return dict(
        kind='detection',
        metric=f'{"mask" if masks else "box"} AP {percent(whole.mean()) if whole.size else 0}',
        columns=['class', 'AP', 'AP50', f'recall at score {SCORE}', 'in ground truth', 'predicted'],
        table=rows,
        curves=curves,
        confusion=confusion.tolist(),
        confusion_classes=[*results.classes, 'background'],
        images=images,
    )


def _image(results: Results, number: int, info: dict[str, Any], masks: bool) -> dict[str, Any]:
    """Ground truth and predictions of an image, boxes as x, y, width and height in its pixels."""
    height, width = int(info['height']), int(info['width'])
    truths = []
    for instance in info.get('instances', ()):
        x1, y1, x2, y2 = map(float, instance['bbox'])
        truth = dict(label=int(instance['bbox_label']), box=[x1, y1, x2 - x1, y2 - y1])
        if instance.get('ignore_flag'):
            truth['crowd'] = True
        if masks:
            truth['rle'] = _run_lengths(instance['mask'], height, width)
        truths.append(truth)
    instances = results.predictions[str(info['img_path'])]['pred_instances']
    found = []
    for index in np.argsort(-np.asarray(instances['scores']), kind='stable'):
        x1, y1, x2, y2 = np.asarray(instances['bboxes'])[index].tolist()
        each = dict(
            label=int(instances['labels'][index]),
            score=float(instances['scores'][index]),
            box=[x1, y1, x2 - x1, y2 - y1],
        )
        if masks:
            each['rle'] = instances['masks'][index]
        found.append(each)
    return dict(id=number, path=str(info['img_path']), height=height, width=width, gt=truths, pred=found)


def _run_lengths(mask: Any, height: int, width: int) -> dict[str, Any]:
    if isinstance(mask, dict):
        return run_lengths.frPyObjects(mask, height, width) if isinstance(mask['counts'], list) else mask
    return run_lengths.merge(run_lengths.frPyObjects(mask, height, width))


def _evaluate(results: Results, images: Sequence[dict[str, Any]], kind: str) -> COCOeval:
    """The evaluation of pycocotools, as CocoMetric runs it."""
    truth, found = [], []
    for image in images:
        for source, target in ((image['gt'], truth), (image['pred'], found)):
            for each in source:
                entry = dict(image_id=image['id'], category_id=each['label'], bbox=each['box'], id=len(target) + 1)
                entry.update(area=each['box'][2] * each['box'][3], iscrowd=int(each.get('crowd', False)))
                if 'score' in each:
                    entry['score'] = each['score']
                if 'rle' in each:
                    entry.update(segmentation=each['rle'], area=float(run_lengths.area(each['rle'])))
                target.append(entry)
    coco, detections = COCO(), COCO()
    categories = [dict(id=index, name=name) for index, name in enumerate(results.classes)]
    listed = [dict(id=image['id'], height=image['height'], width=image['width']) for image in images]
    with contextlib.redirect_stdout(io.StringIO()):
        for api, annotations in ((coco, truth), (detections, found)):
            api.dataset = dict(images=listed, annotations=annotations, categories=categories)
            api.createIndex()
        evaluation = COCOeval(coco, detections, kind)
        evaluation.params.maxDets = [1, 10, 100]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def _match(image: dict[str, Any], confusion: np.ndarray, masks: bool) -> None:
    """Count the image in the confusion matrix, mark its predictions right or wrong, and score it by F1."""
    truths = [each for each in image['gt'] if not each.get('crowd')]
    found = [each for each in image['pred'] if each['score'] >= SCORE]
    background, right = len(confusion) - 1, 0
    free = set(range(len(truths)))
    overlaps = np.zeros((len(found), len(truths)))
    if found and truths:
        key = 'rle' if masks else 'box'
        # pycocotools writes past its buffer on an empty list, hence the condition above.
        overlaps = run_lengths.iou([each[key] for each in found], [each[key] for each in truths], [0] * len(truths))
    for each, row in zip(found, overlaps):
        # A truth of its own class first: a wrong one that overlaps more is not the one it found.
        fitting = [i for i in free if row[i] >= OVERLAP]
        best = max(fitting, key=lambda i: (truths[i]['label'] == each['label'], row[i]), default=None)
        label = background if best is None else truths[best]['label']
        confusion[label, each['label']] += 1
        each['right'] = label == each['label']
        right += each['right']
        free.discard(best)
    for i in free:
        confusion[truths[i]['label'], background] += 1
    total = len(found) + len(truths)
    image['score'] = round(2 * right / total, 4) if total else 1.0


def _outlines(rle: dict[str, Any]) -> list[list[int]]:
    """The outlines of a mask as flat lists x, y, x, y, ..."""
    contours, _ = cv2.findContours(run_lengths.decode(rle), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [cv2.approxPolyDP(contour, OUTLINE_TOLERANCE, True).flatten().tolist() for contour in contours]
