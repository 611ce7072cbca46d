"""Outlines of the shapes, and the share of each pixel that they cover."""

from __future__ import annotations

import cv2
import numpy as np

from mmatconv.datasets.shapes.classes import CLASSES

SUPERSAMPLING = 4


def _circle(points: int, ratio: float) -> np.ndarray:
    """An ellipse with half-axes 1 and `ratio`, (points, 2)."""
    angles = np.arange(points) * (2 * np.pi / points)
    return np.stack([np.cos(angles), ratio * np.sin(angles)], 1)


def random_outline(rng: np.random.Generator, label: int, tilt: float = np.pi) -> np.ndarray:
    """A random, randomly turned outline of class `label`, scaled so that its box has half-side 1.

    Args:
        rng: the only source of randomness.
        label: index in CLASSES.
        tilt: by how much it is turned at most, in radians; without, stars and triangles point to the left.

    Returns:
        (parts, points, 2) float64; a ring has two parts, the second is its hole.
    """
    name = CLASSES[label]
    if name == 'disc':
        parts = _circle(72, rng.uniform(0.82, 1))[None]
    elif name == 'triangle':
        angles = np.deg2rad(np.array([0, 120, 240]) + rng.uniform(-14, 14, 3))
        parts = np.stack([np.cos(angles), np.sin(angles)], 1)[None]
    elif name == 'rectangle':
        ratio = rng.uniform(0.6, 1)
        parts = np.array([[[-1, -ratio], [1, -ratio], [1, ratio], [-1, ratio]]])
    elif name == 'star':
        parts = _circle(10, 1)[None] * np.where(np.arange(10) % 2, rng.uniform(0.38, 0.48), 1)[:, None]
    else:
        outer = _circle(72, rng.uniform(0.85, 1))
        parts = np.stack([outer, outer * rng.uniform(0.5, 0.62)])
    angle = rng.uniform(np.pi - tilt, np.pi + tilt)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    parts = parts @ turn
    low, high = parts.min((0, 1)), parts.max((0, 1))
    return (parts - (low + high) / 2) * (2 / (high - low).max())


def enclosed_area(parts: np.ndarray) -> float:
    """Area enclosed by the first part less that of the others, in squared units of `parts`, (parts, points, 2)."""
    x, y = parts[..., 0], parts[..., 1]
    each = 0.5 * np.abs((x * np.roll(y, -1, 1) - np.roll(x, -1, 1) * y).sum(1))
    return float(each[0] - each[1:].sum())


def coverage(parts: np.ndarray, size: int) -> np.ndarray:
    """The share of each pixel inside an outline in pixels, (parts, points, 2); returns (size, size) float32 in 0..1."""
    cover = np.zeros((size, size), np.float32)
    low = np.clip(np.floor(parts.min((0, 1))).astype(int) - 1, 0, size)
    high = np.clip(np.ceil(parts.max((0, 1))).astype(int) + 1, 0, size)
    width, height = high - low
    if width <= 0 or height <= 0:
        return cover
    fine = np.zeros((height * SUPERSAMPLING, width * SUPERSAMPLING), np.uint8)
    # 4 fractional bits; the half is because OpenCV counts from the middle of a pixel.
    points = np.rint(((parts - low) * SUPERSAMPLING - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(fine, list(points), 255, shift=4)
    patch = cv2.resize(fine, (int(width), int(height)), interpolation=cv2.INTER_AREA)
    cover[low[1] : high[1], low[0] : high[0]] = patch.astype(np.float32) / 255
    return cover
