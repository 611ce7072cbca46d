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

from mmatconv.datasets.shapes.classes import CLASSES
from mmatconv.datasets.shapes.coco_annotations import import_coco_mask, scene_annotations
from mmatconv.datasets.shapes.layout import SPLITS, annotation_file, image_paths
from mmatconv.datasets.shapes.scene import draw_scene
from mmatconv.errors import UserError

# Raised whenever the same settings give other files than before.
VERSION = 1
STAMP = 'shapes.json'
UNFINISHED = 'shapes.unfinished.json'
TOOL = 'mmatconv.datasets.shapes'
CROWD_EVERY = 8
JPEG_QUALITY = 93

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
    coco_mask = import_coco_mask()
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


def _expected_files(root: Path, settings: dict[str, Any]) -> list[Path]:
    files = [annotation_file(root, split) for split in SPLITS]
    for split in SPLITS:
        for number in range(1, settings[split] + 1):
            files.extend(image_paths(root, split, number))
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
    for path in (*image_paths(root, split, 1), annotation_file(root, split)):
        path.parent.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for i in range(count):
        scene = draw_scene(np.random.default_rng([settings['seed'], index, i]), size, crowd=i % CROWD_EVERY == 0)
        picture, linked, labels = image_paths(root, split, i + 1)
        _save(picture, scene.image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        try:
            os.link(picture, linked)
        except OSError:  # the disk knows no hard links
            shutil.copyfile(picture, linked)
        _save(labels, scene.labels(), [])
        images.append({'id': i + 1, 'file_name': picture.name, 'width': size, 'height': size, 'license': 1})
        annotations.extend(scene_annotations(scene, i + 1, len(annotations) + 1, coco_mask))
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
    annotation_file(root, split).write_text(json.dumps(content))


def _save(path: Path, image: np.ndarray, options: list[int]) -> None:
    # Not cv2.imwrite, which only returns False where the disk is full or the folder is read-only.
    path.write_bytes(cv2.imencode(path.suffix, image, options)[1].tobytes())
