"""Pictures of one plain, upright shape each, in a folder for each class: for image generation, and for classifiers."""

from __future__ import annotations

import os
from collections.abc import Callable

import cv2
import numpy as np

from mmatconv.datasets.fresh_folder import fresh_folder
from mmatconv.datasets.shapes.appearance import camera, contrasting_colours, shading
from mmatconv.datasets.shapes.classes import CLASSES
from mmatconv.datasets.shapes.outlines import coverage, random_outline
from mmatconv.errors import UserError

# Longer side of the shape's box as a share of the image side, and how far it is turned at most, in radians.
SCALES = (0.7, 0.9)
TILT = 0.25
SMALLEST = 64  # drawn at this size or more, and made smaller


def draw_shape(rng: np.random.Generator, label: int, size: int = 16) -> np.ndarray:
    """One whole shape in the hue of its class, lit from a side, on a muted background.

    Args:
        rng: The only source of randomness.
        label: Index in CLASSES.
        size: Side of the image in pixels. Default: 16.

    Returns:
        (size, size, 3) uint8 in OpenCV's order, BGR.
    """
    side = max(SMALLEST, size)
    hsv = np.array([[[rng.uniform(0, 360), rng.uniform(0, 0.3), rng.uniform(0.2, 0.9)]]], np.float32)
    background = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    diameter = rng.uniform(*SCALES) * side
    slack = (side - diameter) / 2
    centre = side / 2 + rng.uniform(-slack, slack, 2)
    upright = random_outline(rng, label, TILT) @ np.array([[0, 1], [-1, 0]])
    cover = coverage(upright * (diameter / 2) + centre, side)

    y, x = np.mgrid[0:side, 0:side].astype(np.float32) + 0.5
    u, v = (x - centre[0]) / (diameter / 2), (y - centre[1]) / (diameter / 2)
    angle = rng.uniform(0, 2 * np.pi)
    light = np.array([np.cos(angle), np.sin(angle)], np.float32)
    colour = contrasting_colours(rng, background[0, 0], 1, 360 / len(CLASSES) * label)[0]
    paint = colour * shading(rng, cover >= 0.5, u, v, light, diameter)[..., None]
    alpha = cover[..., None]
    image = camera(rng, background * (1 - alpha) + np.clip(paint, 0, 1) * alpha)
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)


def write_one_shapes(
    target: str | os.PathLike[str],
    count: int = 1000,
    size: int = 16,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> None:
    """Writes ``target/CLASS/000001.png`` and so on; image i of a class depends on `seed`, `size`, class and i only.

    Args:
        target: Folder that does not exist yet or is empty.
        count: Images of each class, 1 or more. Default: 1000.
        size: Side of the images in pixels, 8 to 2048. Default: 16.
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
                (folder / name / f'{i + 1:06d}.png').write_bytes(cv2.imencode('.png', image)[1].tobytes())
                if progress is not None:
                    progress(name, i + 1, count)
