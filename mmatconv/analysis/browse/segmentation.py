"""Label maps: the figures of each class, the confusion matrix, and the maps as pictures."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmatconv.analysis.browse.results import Results, percent
from mmatconv.errors import UserError

IGNORED = 255


def summarise(results: Results, folder: Path, side: int) -> dict[str, Any]:
    """What the page shows of a segmentor; writes the label maps as pictures.

    Args:
        results: Of a segmentor.
        folder: Where the pictures go.
        side: Pixels of their longer side at most.

    Returns:
        As :func:`mmatconv.analysis.browse.detection.summarise`, without curves; ``confusion`` counts pixels.
    """
    count = len(results.classes)
    confusion = np.zeros((count, count), dtype=np.int64)
    images = []
    for number, info in enumerate(results.infos):
        truth = np.asarray(results.load_labels(dict(info))['gt_seg_map']).astype(int)
        found = np.asarray(results.predictions[str(info['img_path'])]['pred_sem_seg']['data'])[0].astype(int)
        if truth.shape != found.shape:
            raise UserError(
                f"the label map of '{info['img_path']}' has {truth.shape} pixels and its prediction {found.shape}; "
                'they are of different data.'
            )
        valid = (truth >= 0) & (truth < count) & (truth != IGNORED)
        own = np.bincount(count * truth[valid] + found[valid], minlength=count**2).reshape(count, count)
        confusion += own
        overlap = _overlap(own)
        there = own.sum(1) > 0
        image = dict(id=number, path=str(info['img_path']), height=truth.shape[0], width=truth.shape[1])
        image['score'] = round(float(overlap[there].mean()), 4) if there.any() else 1.0
        image['classes'] = {int(i): round(float(overlap[i]), 4) for i in np.flatnonzero(there)}
        for key, labels in (('gt', truth), ('pred', found)):
            image[key] = f'{number:05d}_{key}.png'
            _picture(np.where(valid, labels, count) if key == 'gt' else labels, results.palette, side).save(
                folder / image[key], optimize=True
            )
        images.append(image)
    overlap = _overlap(confusion)
    there = confusion.sum(1) > 0
    rows = []
    with np.errstate(invalid='ignore', divide='ignore'):
        for index, name in enumerate(results.classes):
            hit, of_truth, of_found = (
                confusion[index, index],
                confusion[index].sum(),
                confusion[:, index].sum(),
            )
            rows.append(
                [name, *(percent(part) for part in (overlap[index], hit / of_truth, hit / of_found)), int(of_truth)]
            )
    return dict(
        kind='segmentation',
        metric=f'mIoU {percent(overlap[there].mean()) if there.any() else 0}',
        columns=['class', 'IoU', 'accuracy (recall)', 'precision', 'pixels in ground truth'],
        table=rows,
        curves=[],
        confusion=confusion.tolist(),
        confusion_classes=results.classes,
        images=images,
    )


def _overlap(confusion: np.ndarray) -> np.ndarray:
    hits = np.diag(confusion)
    with np.errstate(invalid='ignore', divide='ignore'):
        return hits / (confusion.sum(0) + confusion.sum(1) - hits)


def _picture(labels: np.ndarray, palette: list[tuple[int, ...]], side: int) -> Image.Image:
    """Colours for labels, transparent where there is none."""
    table = np.zeros((max(256, len(palette) + 1), 4), dtype=np.uint8)
    table[: len(palette)] = [(*colour, 255) for colour in palette]
    picture = Image.fromarray(table[labels])
    scale = min(1.0, side / max(picture.size))
    return picture.resize([max(1, round(part * scale)) for part in picture.size], Image.Resampling.NEAREST)
