"""Where the files of the generated data set lie: COCO's layout and ADE20K's, side by side."""

from __future__ import annotations

from pathlib import Path

# Our name for a split, COCO's being the same, and ADE20K's.
SPLITS = {'train': 'training', 'val': 'validation'}


def image_paths(root: Path, split: str, number: int) -> tuple[Path, Path, Path]:
    """COCO's picture, ADE20K's picture and its label map, for the image with the 1-based `number`."""
    name = f'{number:012d}'
    return (
        root / 'coco' / split / f'{name}.jpg',
        root / 'ade' / 'images' / SPLITS[split] / f'{name}.jpg',
        root / 'ade' / 'annotations' / SPLITS[split] / f'{name}.png',
    )


def annotation_file(root: Path, split: str) -> Path:
    return root / 'coco' / 'annotations' / f'instances_{split}.json'
