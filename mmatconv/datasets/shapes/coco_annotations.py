"""COCO annotations of a scene: boxes, areas, and masks as polygons or run lengths, exact to the pixel."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import cv2
import numpy as np

from mmatconv.datasets.shapes.scene import Scene
from mmatconv.errors import UserError

# How far a polygon may leave the middles of the outline's pixel edges, in pixels, coarser first.
TOLERANCES = (0.5, 0.4, 0.3, 0.0)


def import_coco_mask() -> ModuleType:
    try:
        from pycocotools import mask
    except ImportError:
        raise UserError(
            "pycocotools is missing and the masks need it; install it with 'pip install pycocotools'."
        ) from None
    return mask


def scene_annotations(scene: Scene, image_id: int, first_id: int, coco_mask: ModuleType) -> list[dict[str, Any]]:
    """COCO's entries for one scene; the masks they decode to are exactly the instances' masks."""
    entries = []
    for k, instance in enumerate(scene.instances):
        rle = coco_mask.encode(np.asfortranarray(instance.mask, np.uint8))
        segmentation: list[list[float]] | dict[str, Any] | None
        if instance.crowd:
            segmentation = {'size': list(instance.mask.shape), 'counts': run_lengths(instance.mask)}
        else:
            segmentation = polygons(instance.mask)
            if segmentation is None:
                segmentation = {'size': rle['size'], 'counts': rle['counts'].decode('ascii')}
        entries.append(
            {
                'id': first_id + k,
                'image_id': image_id,
                'category_id': instance.label + 1,
                'bbox': [float(value) for value in coco_mask.toBbox(rle)],
                'area': float(coco_mask.area(rle)),
                'iscrowd': int(instance.crowd),
                'segmentation': segmentation,
            }
        )
    return entries


def run_lengths(mask: np.ndarray) -> list[int]:
    """COCO's uncompressed run lengths of a mask, (height, width) bool: down the columns, zeros first."""
    flat = mask.T.ravel()
    ends = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff(np.concatenate([[0], ends, [flat.size]])).tolist()
    return [0, *lengths] if flat[0] else lengths


def polygons(mask: np.ndarray) -> list[list[float]] | None:
    """COCO's polygons of a mask, one for each piece: `[x0, y0, x1, y1, ...]` in pixels.

    The coarsest outline that pycocotools turns into exactly `mask` again is taken.

    Args:
        mask: (height, width) bool.

    Returns:
        None where the mask has a hole, which polygons cannot say, or where no outline gives the mask again.
    """
    coco_mask = import_coco_mask()
    # At twice the size every pixel has corners of its own, so that (u + 1) // 2 is the nearest line between pixels.
    # The frame of zeros keeps the outline whole where the mask touches the image's border.
    double = np.pad(mask.astype(np.uint8), 1).repeat(2, 0).repeat(2, 1)
    contours, hierarchy = cv2.findContours(double, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if not contours or (hierarchy[0, :, 3] >= 0).any():
        return None
    corners = []
    for contour in contours:
        steps = (contour[:, 0] + 1) // 2 - 1
        corners.append(steps[(steps != np.roll(steps, 1, 0)).any(1)])
    middles = [(c + np.roll(c, 1, 0)).astype(np.float32) / 2 for c in corners]
    for tolerance in TOLERANCES:
        outlines = [cv2.approxPolyDP(points[:, None], tolerance, True)[:, 0] for points in middles]
        if all(len(outline) >= 3 for outline in outlines) and _encodes(coco_mask, outlines, mask):
            return [outline.ravel().tolist() for outline in outlines]
    return [c.ravel().tolist() for c in corners] if _encodes(coco_mask, corners, mask) else None


def _encodes(coco_mask: ModuleType, outlines: list[np.ndarray], mask: np.ndarray) -> bool:
    height, width = mask.shape
    rles = coco_mask.frPyObjects([outline.ravel().tolist() for outline in outlines], height, width)
    return bool(np.array_equal(coco_mask.decode(coco_mask.merge(rles)).astype(bool), mask))


def decode_segmentation(
    coco_mask: ModuleType, segmentation: list | dict[str, Any], height: int, width: int
) -> np.ndarray:
    """Any of COCO's three kinds of segmentation as (height, width) uint8."""
    if isinstance(segmentation, list):
        return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width)))
    if isinstance(segmentation['counts'], list):
        segmentation = coco_mask.frPyObjects(segmentation, height, width)
    return coco_mask.decode(segmentation)
