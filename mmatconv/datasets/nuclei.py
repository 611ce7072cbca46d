"""Nuclei under the microscope (Data Science Bowl 2018, CC0) as a COCO data set with a split of its own."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from mmatconv.datasets.fresh_folder import fresh_folder
from mmatconv.errors import UserError

# Percent of each modality in a split; what is left is for training.
SHARES = {'test': 20, 'val': 10}
# The HSV saturation (0 to 255) above which an image is stained tissue; grey ones have exactly 0, the palest stain 14.
STAINED = 5
# The mean grey value that separates fluorescence (at most 57) from bright field (at least 205).
BRIGHT = 128

Progress = Callable[[str, int, int], None]


def convert_nuclei(
    source: str | os.PathLike[str], target: str | os.PathLike[str], progress: Progress | None = None
) -> dict[str, int]:
    """Write the training images of the Data Science Bowl 2018 in COCO's layout.

    Under ``target``: ``annotations/instances_{train,val,test}.json`` with run lengths, ``{train,val,test}/ID.png`` in
    RGB, and ``splits.json``, which names the modality and the split of each image. Every modality (fluorescence,
    bright field, stained tissue) is divided in the same shares, by a hash of the image's name: the split depends on
    nothing else.

    Args:
        source: The folder ``stage1_train``: for each image ``ID/images/ID.png`` and ``ID/masks/*.png``, one for each
            nucleus.
        target: Folder to write; must not exist or be empty.
        progress: Called with the split's name, the images done and their total. Default: None.

    Returns:
        Number of images of each split.

    Raises:
        UserError: ``source`` is not such a folder, ``target`` is not empty, or a file cannot be read.
    """
    source = Path(source)
    folders = sorted(path.parent for path in source.glob('*/images')) if source.is_dir() else []
    if not folders:
        raise UserError(
            f"'{source}' holds no ID/images/ID.png; name the folder stage1_train of the Data Science Bowl 2018."
        )
    with fresh_folder(target) as root:
        modalities = {folder: _modality(_read(_image_file(folder))) for folder in folders}
        splits = _split(modalities)
        for split, chosen in splits.items():
            _write_split(root, split, chosen, progress)
        table = {
            folder.name: dict(split=split, modality=modalities[folder])
            for split, chosen in splits.items()
            for folder in chosen
        }
        (root / 'splits.json').write_text(json.dumps(table, indent=1, sort_keys=True) + '\n')
    return {split: len(chosen) for split, chosen in splits.items()}


def _read(path: Path, flag: int = cv2.IMREAD_COLOR) -> np.ndarray:
    image = cv2.imread(str(path), flag)
    if image is None:
        raise UserError(f"'{path}' is not an image or is damaged; fetch it again.")
    return image


def _image_file(folder: Path) -> Path:
    files = sorted((folder / 'images').glob('*.png'))
    if len(files) != 1:
        raise UserError(f"'{folder / 'images'}' holds {len(files)} PNG files, expected one; fetch it again.")
    return files[0]


def _modality(image: np.ndarray) -> str:
    if cv2.cvtColor(image, cv2.COLOR_BGR2HSV)[..., 1].mean() > STAINED:
        return 'stained'
    return 'bright field' if image.mean() > BRIGHT else 'fluorescence'


def _split(modalities: dict[Path, str]) -> dict[str, list[Path]]:
    splits: dict[str, list[Path]] = {'train': [], 'val': [], 'test': []}
    for modality in sorted(set(modalities.values())):
        members = [folder for folder, found in modalities.items() if found == modality]
        members.sort(key=lambda folder: hashlib.sha256(folder.name.encode()).digest())
        start = 0
        for split, share in SHARES.items():
            end = start + len(members) * share // 100
            splits[split] += members[start:end]
            start = end
        splits['train'] += members[start:]
    return {split: sorted(chosen) for split, chosen in splits.items()}


def _write_split(root: Path, split: str, folders: list[Path], progress: Progress | None) -> None:
    from pycocotools import mask as coco_mask

    (root / split).mkdir()
    (root / 'annotations').mkdir(exist_ok=True)
    images, annotations = [], []
    for image_id, folder in enumerate(folders, 1):
        image = _read(_image_file(folder))
        height, width = image.shape[:2]
        name = f'{folder.name}.png'
        cv2.imwrite(str(root / split / name), image)
        images.append(dict(id=image_id, file_name=name, height=height, width=width))
        for path in sorted((folder / 'masks').glob('*.png')):
            mask = _read(path, cv2.IMREAD_GRAYSCALE) > 0
            if mask.shape != (height, width):
                raise UserError(f"'{path}' is {mask.shape}, expected {(height, width)} as its image; fetch it again.")
            if not mask.any():
                continue
            encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image_id,
                    category_id=1,
                    iscrowd=0,
                    area=int(mask.sum()),
                    bbox=coco_mask.toBbox(encoded).tolist(),
                    segmentation=dict(size=[height, width], counts=encoded['counts'].decode()),
                )
            )
        if progress:
            progress(split, image_id, len(folders))
    content = dict(images=images, annotations=annotations, categories=[dict(id=1, name='nucleus')])
    (root / 'annotations' / f'instances_{split}.json').write_text(json.dumps(content))
