"""Pictures of one shape each, in a folder for each class: for image generation, and for classifiers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from mmatconv.datasets.fresh_folder import fresh_folder
from mmatconv.datasets.shapes.appearance import camera
from mmatconv.datasets.shapes.classes import CLASSES
from mmatconv.datasets.shapes.outlines import coverage, random_outline
from mmatconv.datasets.shapes.scene import Painter
from mmatconv.errors import UserError

# Longer side of the shape's box as a share of the image side.
SCALES = (0.6, 0.85)
SMALLEST = 64  # textures are drawn at this size or more, and made smaller


class OneShapePainter(Painter):
    """Draws one shape, whole, on a background."""

    def paint_one(self, label: int) -> np.ndarray:
        """(size, size, 3) uint8 in BGR, a shape of class `label`."""
        rng, size = self.rng, self.size
        diameter = rng.uniform(*SCALES) * size
        slack = (size - diameter) / 2
        centre = size / 2 + rng.uniform(-slack, slack, 2)
        self.labels.append(label)
        self._blend(coverage(random_outline(rng, label) * (diameter / 2) + centre, size), centre, diameter)
        return camera(rng, self.canvas)


def draw_shape(rng: np.random.Generator, label: int, size: int = 32) -> np.ndarray:
    """One shape.

    Args:
        rng: The only source of randomness.
        label: Index in CLASSES.
        size: Side of the image in pixels. Default: 32.

    Returns:
        (size, size, 3) uint8 in OpenCV's order, BGR.
    """
    image = OneShapePainter(rng, max(SMALLEST, size)).paint_one(label)
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)


def write_one_shapes(
    target: str | os.PathLike[str],
    count: int = 1000,
    size: int = 32,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> None:
    """Writes ``target/CLASS/000001.png`` and so on; image i of a class depends on `seed`, `size`, class and i only.

    Args:
        target: Folder that does not exist yet or is empty.
        count: Images of each class, 1 or more. Default: 1000.
        size: Side of the images in pixels, 8 to 2048. Default: 32.
        seed: 0 or more. Default: 0.
        progress: Called with the name of the class, the images done and their total. Default: None.

    Raises:
        UserError: A number is outside of its range, or the folder holds something.
    """
    for name, value, low, high in (('count', count, 1, 10**6), ('size', size, 8, 2048), ('seed', seed, 0, 2**63 - 1)):
        if not low <= value <= high:
            raise UserError(f'{name} is {value}, expected a whole number from {low} to {high}; choose another.')
    with fresh_folder(target) as folder:
        for label, name in enumerate(CLASSES):
            (folder / name).mkdir()
            for i in range(count):
                image = draw_shape(np.random.default_rng([seed, label, i]), label, size)
                Path(folder, name, f'{i + 1:06d}.png').write_bytes(cv2.imencode('.png', image)[1].tobytes())
                if progress is not None:
                    progress(name, i + 1, count)
