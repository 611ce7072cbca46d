"""A sheet of pictures from a written data set beside their annotations."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np

from mmatconv.datasets.shapes.classes import PALETTE
from mmatconv.datasets.shapes.coco_annotations import decode_segmentation, import_coco_mask
from mmatconv.datasets.shapes.layout import annotation_file, image_paths


def preview(root: str | os.PathLike[str], split: str = 'train', count: int = 12, columns: int = 3) -> np.ndarray:
    """A grid of pictures from a written data set, each beside its label map with the instances outlined.

    Args:
        root: what was given to `write_shapes`.
        split: 'train' or 'val'. Default: 'train'.
        count: the first so many images, or all where there are fewer. Default: 12.
        columns: pairs in a row. Default: 3.

    Returns:
        (rows * size, columns * 2 * size, 3) uint8, BGR. Ignored pixels (label 0) are black.
    """
    root = Path(root)
    coco_mask = import_coco_mask()
    content = json.loads(annotation_file(root, split).read_text())
    # PALETTE is RGB, OpenCV's order is BGR.
    colours = np.array([(0, 0, 0), *PALETTE], np.uint8)[:, ::-1]
    pairs = []
    for entry in content['images'][:count]:
        picture, _, label_file = image_paths(root, split, entry['id'])
        drawing = colours[cv2.imread(str(label_file), cv2.IMREAD_GRAYSCALE)]
        for annotation in content['annotations']:
            if annotation['image_id'] == entry['id']:
                mask = decode_segmentation(coco_mask, annotation['segmentation'], entry['height'], entry['width'])
                contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
                cv2.drawContours(drawing, contours, -1, (0, 0, 0) if annotation['iscrowd'] else (255, 255, 255), 1)
        pairs.append(np.hstack([cv2.imread(str(picture)), drawing]))
    columns = min(columns, len(pairs))
    pairs += [np.zeros_like(pairs[0])] * (-len(pairs) % columns)
    return np.vstack([np.hstack(pairs[i : i + columns]) for i in range(0, len(pairs), columns)])
