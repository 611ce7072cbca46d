"""Scenes of textured, shaded, overlapping shapes with exact masks.

Nine shapes in ten have the hue of their class, with a wide spread, so only the outline tells the classes apart
reliably. Everything random comes from the generator that the caller passes in.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from mmatconv.datasets.shapes.appearance import background, camera, contrasting_colours, shading, texture_pattern
from mmatconv.datasets.shapes.classes import CLASSES
from mmatconv.datasets.shapes.outlines import coverage, enclosed_area, random_outline

# Longer side of a shape's box as a share of the image side.
SCALES = (0.14, 0.5)
SHAPES = (2, 5)  # fewer where no free place is found
# A shape in front is placed elsewhere where it would leave less than this share of one behind it in sight.
MIN_VISIBLE = 0.65
TYPICAL = 0.9  # share of the shapes that have the hue of their class


@dataclass(frozen=True)
class Instance:
    """What is annotated: one shape, or (crowd) a cluster of tiny shapes of one class.

    Attributes:
        label: index in CLASSES.
        mask: (size, size) bool, the visible pixels only; masks of one scene do not overlap.
        crowd: True for a cluster.
    """

    label: int
    mask: np.ndarray
    crowd: bool = False


@dataclass(frozen=True)
class Scene:
    """An image and its annotation.

    Attributes:
        image: (size, size, 3) uint8 in OpenCV's order, BGR.
        instances: from back to front, at least one that is not a crowd.
        void: (size, size) bool, background pixels with some shape blended into them (label 0).
    """

    image: np.ndarray
    instances: tuple[Instance, ...]
    void: np.ndarray

    def labels(self) -> np.ndarray:
        """The label map, (size, size) uint8: 0 ignored, 1 background, 2 + i for CLASSES[i]."""
        labels = np.where(self.void, 0, 1).astype(np.uint8)
        for instance in self.instances:
            labels[instance.mask] = instance.label + 2
        return labels


def draw_scene(rng: np.random.Generator, size: int = 192, crowd: bool = False) -> Scene:
    """Draws one scene.

    Args:
        rng: the only source of randomness; equal states give equal scenes.
        size: side of the square image in pixels, at least 64.
        crowd: adds a cluster of 9 to 20 tiny shapes of one class, annotated as one crowd.

    Returns:
        Scene: 1 to 5 shapes. At least 45 % of each is in sight, counting what the image's border cuts off as hidden.
    """
    return Painter(rng, size).paint(crowd)


class Painter:
    """The state of one drawing: the canvas, who owns each pixel, and the light that all shapes share."""

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        self.rng = rng
        self.size = size
        self.canvas = background(rng, size)
        self.owner = np.zeros((size, size), np.int32)  # 0 background, k instance k - 1
        self.cover = np.zeros((size, size), np.float32)  # the largest coverage by any shape so far
        self.areas: list[float] = []  # whole area of each instance, in pixels, hidden and cut parts included
        self.labels: list[int] = []
        angle = rng.uniform(0, 2 * np.pi)
        self.light = np.array([np.cos(angle), np.sin(angle)], np.float32)
        self.shadow = rng.uniform(0.2, 0.5)

    def paint(self, crowd: bool) -> Scene:
        rng, size = self.rng, self.size
        if crowd:
            self._add_crowd()
        smallest = max(SCALES[0], 8 / size)
        for _ in range(rng.integers(SHAPES[0], SHAPES[1] + 1)):
            self._add_shape(int(rng.integers(len(CLASSES))), rng.uniform(smallest, SCALES[1]) * size)
        while len(self.areas) == int(crowd):  # a crowd in an unlucky place: try again, smaller
            self._add_shape(int(rng.integers(len(CLASSES))), rng.uniform(smallest, 0.2) * size)
        instances = tuple(Instance(label, self.owner == k + 1, crowd and k == 0) for k, label in enumerate(self.labels))
        void = (self.owner == 0) & (self.cover > 0.1)
        return Scene(camera(rng, self.canvas), instances, void)

    def _add_shape(self, label: int, diameter: float) -> None:
        rng, size = self.rng, self.size
        outline = random_outline(rng, label) * (diameter / 2)
        area = enclosed_area(outline)
        for _ in range(20):
            # Part of the shape, but never its middle, may lie outside the image.
            centre = rng.uniform(0.36 * diameter, size - 0.36 * diameter, 2)
            cover = coverage(outline + centre, size)
            if self._leaves_enough(cover >= 0.5):
                self.areas.append(area)
                self.labels.append(label)
                self._blend(cover, centre, diameter)
                return

    def _leaves_enough(self, mask: np.ndarray) -> bool:
        """Whether all that is drawn so far stays recognisable behind `mask`, (size, size) bool."""
        left = np.bincount(self.owner[~mask], minlength=len(self.areas) + 1)[1:]
        return bool(np.all(left >= MIN_VISIBLE * np.asarray(self.areas)))

    def _add_crowd(self) -> None:
        rng, size = self.rng, self.size
        label = int(rng.integers(len(CLASSES)))
        middle = rng.uniform(0.25 * size, 0.75 * size, 2)
        self.labels.append(label)
        self.areas.append(0.0)
        taken: list[np.ndarray] = []
        for _ in range(rng.integers(9, 21)):
            diameter = max(rng.uniform(0.04, 0.06) * size, 4.0)
            outline = random_outline(rng, label) * (diameter / 2)
            for _ in range(10):
                centre = np.clip(middle + rng.normal(0, 0.08 * size, 2), diameter, size - diameter)
                if all(np.hypot(*(centre - other)) > 0.06 * size for other in taken):
                    taken.append(centre)
                    self._blend(coverage(outline + centre, size), centre, diameter)
                    break
        self.areas[0] = float((self.owner == 1).sum())

    def _blend(self, cover: np.ndarray, centre: np.ndarray, diameter: float) -> None:
        """Paints the newest instance where `cover`, (size, size) float32 in 0..1, says, and makes it the owner."""
        rng, size = self.rng, self.size
        mask = cover >= 0.5
        offset = -self.light * (0.02 + 0.05 * diameter / size) * size
        shift = np.array([[1, 0, offset[0]], [0, 1, offset[1]]], np.float32)
        shadow = cv2.GaussianBlur(cv2.warpAffine(cover, shift, (size, size)), (0, 0), 0.5 + 0.035 * diameter)
        self.canvas *= (1 - self.shadow * shadow)[..., None]

        pad = 2
        x0, y0 = np.maximum(np.floor(centre - diameter * 0.75).astype(int) - pad, 0)
        x1, y1 = np.minimum(np.ceil(centre + diameter * 0.75).astype(int) + pad, size)
        part = np.s_[y0:y1, x0:x1]
        y, x = np.mgrid[y0:y1, x0:x1].astype(np.float32) + 0.5
        u, v = (x - centre[0]) / (diameter / 2), (y - centre[1]) / (diameter / 2)

        alpha = cover[part][..., None]
        beneath = self.canvas[mask].mean(0) if mask.any() else self.canvas.mean((0, 1))
        typical = 360 / len(CLASSES) * self.labels[-1] if rng.random() < TYPICAL else None
        first, second = contrasting_colours(rng, beneath, 2, typical)
        texture = texture_pattern(rng, u, v, diameter)[..., None] * rng.uniform(0.3, 0.7)
        paint = first * (1 - texture) + second * texture
        paint = paint * shading(rng, mask[part], u, v, self.light, diameter)[..., None]
        self.canvas[part] = self.canvas[part] * (1 - alpha) + np.clip(paint, 0, 1) * alpha
        self.owner[mask] = len(self.labels)
        np.maximum(self.cover, cover, out=self.cover)
