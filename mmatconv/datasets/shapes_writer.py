"""Writes generated scenes as a COCO data set and, with the same pictures, as a folder in ADE20K's layout."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np

from mmatconv.datasets.shapes import CLASSES, PALETTE, Scene, draw_scene
from mmatconv.errors import UserError

# Raised whenever the same settings give other files than before.
VERSION = 1
STAMP = 'shapes.json'
UNFINISHED = 'shapes.unfinished.json'
TOOL = 'mmatconv.datasets.shapes'
# Our name for a split, COCO's being the same, and ADE20K's.
SPLITS = {'train': 'training', 'val': 'validation'}
CROWD_EVERY = 8
JPEG_QUALITY = 93
# How far a polygon may leave the middles of the outline's pixel edges, in pixels, coarser first.
TOLERANCES = (0.5, 0.4, 0.3, 0.0)

Progress = Callable[[str, int, int], None]


def write_shapes(
    root: str | os.PathLike[str],
    train: int = 400,
    val: int = 60,
    size: int = 192,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> bool:
    """Writes the generated data set, or finds it already there.

    Under `root`: `coco/annotations/instances_{train,val}.json`, `coco/{train,val}/000000000001.jpg`,
    `ade/images/{training,validation}/*.jpg` (the same files, hard-linked where the disk allows it) and
    `ade/annotations/{training,validation}/*.png`. `shapes.json` is written last and holds the settings.
    Image i of a split depends on `seed`, `size`, the split and i only, never on the number of images.

    Args:
        root: folder to write to; made where it is missing. A folder left by an interrupted call is written anew.
        train: number of training images, 1 or more. Default: 400.
        val: number of validation images, 1 or more. Default: 60.
        size: side of the square images in pixels, 64 to 2048. Default: 192.
        seed: 0 or more. Default: 0.
        overwrite: replace a data set that this function wrote with other settings. Default: False.
        progress: called with the split's name, the images done and their total. Default: None.

    Returns:
        bool: False where `root` already held exactly this data set, and nothing was done.

    Raises:
        UserError: for a setting out of range, a folder that is not ours or holds other settings, or where
            pycocotools is missing.
    """
    settings = {'tool': TOOL, 'version': VERSION, 'train': train, 'val': val, 'size': size, 'seed': seed}
    _check_settings(settings)
    coco_mask = _coco_mask()
    root = Path(root)
    if _is_complete(root, settings, overwrite):
        return False
    root.mkdir(parents=True, exist_ok=True)
    # The marker goes in before anything is removed and leaves by becoming the stamp, so that at every moment the
    # folder says which of the two states it is in.
    if (root / STAMP).exists():
        os.replace(root / STAMP, root / UNFINISHED)
    (root / UNFINISHED).write_text(json.dumps(settings, indent=1) + '\n')
    for name in ('coco', 'ade'):
        _remove(root / name)
    for index, split in enumerate(SPLITS):
        _write_split(root, split, index, settings, coco_mask, progress)
    os.replace(root / UNFINISHED, root / STAMP)
    return True


def _check_settings(settings: dict[str, Any]) -> None:
    for name, low, high in (('train', 1, 10**6), ('val', 1, 10**6), ('size', 64, 2048), ('seed', 0, 2**63 - 1)):
        value = settings[name]
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise UserError(f'{name} is {value!r}, expected a whole number from {low} to {high}; choose another.')


def _coco_mask() -> ModuleType:
    try:
        from pycocotools import mask
    except ImportError:
        raise UserError(
            "pycocotools is missing and the masks need it; install it with 'pip install pycocotools'."
        ) from None
    return mask


def _is_complete(root: Path, settings: dict[str, Any], overwrite: bool) -> bool:
    """Whether `root` holds the data set already; UserError where it holds something that must not be replaced."""
    if root.exists() and not root.is_dir():
        raise UserError(f"'{root}' is a file, expected a folder to write to; choose another.")
    if not root.exists() or (root / UNFINISHED).exists() or not any(root.iterdir()):
        return False
    stamp = read_stamp(root)
    if stamp is None:
        raise UserError(
            f"the folder '{root}' is not empty and was not written by this tool (it has no {STAMP} of ours), "
            f'so not even --overwrite touches it; choose another folder.'
        )
    if overwrite and stamp != settings:
        return False
    if stamp != settings:
        other = ', '.join(f'{key} {stamp.get(key)}' for key, value in settings.items() if stamp.get(key) != value)
        raise UserError(
            f"the folder '{root}' holds a data set with other settings ({other}); "
            f'choose another folder or pass --overwrite to replace it.'
        )
    missing = next((path for path in _expected_files(root, settings) if not path.is_file()), None)
    if missing is not None and not overwrite:
        raise UserError(
            f"the folder '{root}' is incomplete ('{missing.relative_to(root)}' is missing); "
            f'choose another folder or pass --overwrite to write it anew.'
        )
    return missing is None


def read_stamp(root: Path) -> dict[str, Any] | None:
    """The settings a finished data set in `root` was made with; None where there is none of ours."""
    try:
        stamp = json.loads((root / STAMP).read_text())
    except (OSError, ValueError):
        return None
    return stamp if isinstance(stamp, dict) and stamp.get('tool') == TOOL else None


def _paths(root: Path, split: str, number: int) -> tuple[Path, Path, Path]:
    """COCO's picture, ADE20K's picture and its label map, for the image with the 1-based `number`."""
    name = f'{number:012d}'
    return (
        root / 'coco' / split / f'{name}.jpg',
        root / 'ade' / 'images' / SPLITS[split] / f'{name}.jpg',
        root / 'ade' / 'annotations' / SPLITS[split] / f'{name}.png',
    )


def _annotation_file(root: Path, split: str) -> Path:
    return root / 'coco' / 'annotations' / f'instances_{split}.json'


def _expected_files(root: Path, settings: dict[str, Any]) -> list[Path]:
    files = [_annotation_file(root, split) for split in SPLITS]
    for split in SPLITS:
        for number in range(1, settings[split] + 1):
            files.extend(_paths(root, split, number))
    return files


def _remove(path: Path) -> None:
    if path.is_symlink():  # what it points to is not ours
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def _write_split(
    root: Path, split: str, index: int, settings: dict[str, Any], coco_mask: ModuleType, progress: Progress | None
) -> None:
    count, size = settings[split], settings['size']
    for path in (*_paths(root, split, 1), _annotation_file(root, split)):
        path.parent.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for i in range(count):
        scene = draw_scene(np.random.default_rng([settings['seed'], index, i]), size, crowd=i % CROWD_EVERY == 0)
        picture, linked, labels = _paths(root, split, i + 1)
        _save(picture, scene.image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        try:
            os.link(picture, linked)
        except OSError:  # the disk knows no hard links
            shutil.copyfile(picture, linked)
        _save(labels, scene.labels(), [])
        images.append({'id': i + 1, 'file_name': picture.name, 'width': size, 'height': size, 'license': 1})
        annotations.extend(_annotations(scene, i + 1, len(annotations) + 1, coco_mask))
        if progress is not None:
            progress(split, i + 1, count)
    content = {
        'info': {
            'description': f'Generated shapes ({split})',
            'version': str(VERSION),
            'year': 2026,
            'contributor': TOOL,
            'url': '',
            'date_created': '2026/01/01',  # not today's: equal settings give equal bytes
        },
        'licenses': [
            {'id': 1, 'name': 'CC0 1.0', 'url': 'https://creativecommons.org/publicdomain/zero/1.0/'},
        ],
        'images': images,
        'annotations': annotations,
        'categories': [{'id': k + 1, 'name': name, 'supercategory': 'shape'} for k, name in enumerate(CLASSES)],
    }
    _annotation_file(root, split).write_text(json.dumps(content))


def _save(path: Path, image: np.ndarray, options: list[int]) -> None:
    # Not cv2.imwrite, which only returns False where the disk is full or the folder is read-only.
    path.write_bytes(cv2.imencode(path.suffix, image, options)[1].tobytes())


def _annotations(scene: Scene, image_id: int, first_id: int, coco_mask: ModuleType) -> list[dict[str, Any]]:
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
    coco_mask = _coco_mask()
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
        if all(len(outline) >= 3 for outline in outlines) and _gives(coco_mask, outlines, mask):
            return [outline.ravel().tolist() for outline in outlines]
    return [c.ravel().tolist() for c in corners] if _gives(coco_mask, corners, mask) else None


def _gives(coco_mask: ModuleType, outlines: list[np.ndarray], mask: np.ndarray) -> bool:
    height, width = mask.shape
    rles = coco_mask.frPyObjects([outline.ravel().tolist() for outline in outlines], height, width)
    return bool(np.array_equal(coco_mask.decode(coco_mask.merge(rles)).astype(bool), mask))


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
    coco_mask = _coco_mask()
    content = json.loads(_annotation_file(root, split).read_text())
    # PALETTE is RGB, OpenCV's order is BGR.
    colours = np.array([(0, 0, 0), *PALETTE], np.uint8)[:, ::-1]
    pairs = []
    for entry in content['images'][:count]:
        picture, _, label_file = _paths(root, split, entry['id'])
        drawing = colours[cv2.imread(str(label_file), cv2.IMREAD_GRAYSCALE)]
        for annotation in content['annotations']:
            if annotation['image_id'] == entry['id']:
                mask = _decode(coco_mask, annotation['segmentation'], entry['height'], entry['width'])
                contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
                cv2.drawContours(drawing, contours, -1, (0, 0, 0) if annotation['iscrowd'] else (255, 255, 255), 1)
        pairs.append(np.hstack([cv2.imread(str(picture)), drawing]))
    columns = min(columns, len(pairs))
    pairs += [np.zeros_like(pairs[0])] * (-len(pairs) % columns)
    return np.vstack([np.hstack(pairs[i : i + columns]) for i in range(0, len(pairs), columns)])


def _decode(coco_mask: ModuleType, segmentation: list | dict[str, Any], height: int, width: int) -> np.ndarray:
    """Any of COCO's three kinds of segmentation as (height, width) uint8."""
    if isinstance(segmentation, list):
        return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width)))
    if isinstance(segmentation['counts'], list):
        segmentation = coco_mask.frPyObjects(segmentation, height, width)
    return coco_mask.decode(segmentation)
