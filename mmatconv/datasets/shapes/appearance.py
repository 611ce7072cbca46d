"""What a scene looks like: background, colours, textures, shading, and the camera."""

from __future__ import annotations

import cv2
import numpy as np

MIN_CONTRAST = 50.0  # distance in CIE Lab between a shape and what it is drawn on
HUE_SPREAD = 25.0  # how far shapes stray from the hue of their class, standard deviation in degrees


def noise(
    rng: np.random.Generator, shape: tuple[int, int], cells: float, octaves: int, stretch: float = 1
) -> np.ndarray:
    """Smooth noise stretched to 0..1, float32 of `shape` (height, width).

    Args:
        cells: number of bumps across the longer side in the coarsest octave.
        stretch: how many times longer than high the bumps are.
    """
    total = np.zeros(shape, np.float32)
    longer = max(shape)
    for octave in range(octaves):
        rows = max(int(cells * 2**octave * shape[0] / longer), 1) + 2
        columns = max(int(cells / stretch * 2**octave * shape[1] / longer), 1) + 2
        grid = rng.random((min(rows, shape[0] + 2), min(columns, shape[1] + 2)), np.float32)
        total += cv2.resize(grid, shape[::-1], interpolation=cv2.INTER_CUBIC) * 0.55**octave
    total -= total.min()
    return total / max(float(total.max()), 1e-6)


def background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Cloud, marble or grain in three related muted colours, (size, size, 3) float32 BGR in 0..1."""
    shape = (size, size)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    kind = rng.integers(3)
    stretch = rng.uniform(3, 7) if kind == 2 else 1.0
    base = noise(rng, shape, rng.uniform(2, 5) * np.sqrt(stretch), 5, stretch)
    # Bending the noise by noise gives the folds and swirls that plain octaves lack.
    bend = rng.uniform(0.05, 0.25) * size
    bend_x = x + bend * (noise(rng, shape, 2, 2) - 0.5)
    bend_y = y + bend * (noise(rng, shape, 2, 2) - 0.5)
    base = cv2.remap(base, bend_x, bend_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    if kind == 1:
        base = 1 - np.abs(2 * base - 1)
    if rng.random() < 0.5:
        base = base.T.copy()

    # Earth, grass, water and sky: a hue in degrees around which the three colours lie.
    hue = rng.choice([32, 48, 95, 130, 195, 215]) + rng.normal(0, 14, 3)
    hsv = np.stack([hue % 360, rng.uniform(0.08, 0.5, 3), rng.permutation([0.32, 0.55, 0.8])], 1)
    hsv[:, 2] += rng.uniform(-0.12, 0.12) + rng.uniform(-0.08, 0.08, 3)
    colours = cv2.cvtColor(hsv[None].astype(np.float32), cv2.COLOR_HSV2BGR)[0]
    mix = base[..., None]
    canvas = colours[0] * (1 - mix) + colours[1] * mix
    patches = np.clip(noise(rng, shape, 2.5, 3) * 2.4 - 1.1, 0, 1)[..., None] * rng.uniform(0.3, 0.8)
    canvas = canvas * (1 - patches) + colours[2] * patches
    canvas *= 1 + rng.uniform(0.05, 0.2) * (noise(rng, shape, size / 6, 2) - 0.5)[..., None]
    angle = rng.uniform(0, 2 * np.pi)
    slope = (np.cos(angle) * (x / size - 0.5) + np.sin(angle) * (y / size - 0.5))[..., None]
    return np.clip(canvas * (1 + rng.uniform(0, 0.5) * slope), 0, 1).astype(np.float32)


def contrasting_colours(rng: np.random.Generator, beneath: np.ndarray, count: int, hue: float | None) -> np.ndarray:
    """Random colours that stand out from the colour `beneath`.

    Args:
        beneath: (3,) BGR in 0..1.
        count: how many.
        hue: in degrees, around which they lie; None for any.

    Returns:
        (count, 3) BGR in 0..1.
    """
    tries = 24
    hues = rng.uniform(0, 360, tries) if hue is None else rng.normal(hue, HUE_SPREAD, tries) % 360
    hsv = np.stack([hues, rng.uniform(0.15 if hue is None else 0.45, 0.95, tries), rng.uniform(0.2, 1, tries)], 1)
    colours = cv2.cvtColor(hsv[None].astype(np.float32), cv2.COLOR_HSV2BGR)
    lab = cv2.cvtColor(np.concatenate([colours, beneath.reshape(1, 1, 3).astype(np.float32)], 1), cv2.COLOR_BGR2Lab)[0]
    far = np.linalg.norm(lab[:-1] - lab[-1], axis=1)
    # Stable sort: those that are far enough keep their random order, the rest follow.
    order = np.argsort(-np.minimum(far, MIN_CONTRAST), kind='stable')
    return colours[0, order[:count]]


def texture_pattern(rng: np.random.Generator, u: np.ndarray, v: np.ndarray, diameter: float) -> np.ndarray:
    """How much of the second colour each pixel takes, float32 in 0..1.

    Args:
        u, v: (h, w) coordinates in half-diameters from the middle of the shape.
        diameter: in pixels; the pattern is never finer than 5 pixels.
    """
    kind = rng.integers(5)
    angle = rng.uniform(0, np.pi)
    a = np.cos(angle) * u + np.sin(angle) * v
    b = np.cos(angle) * v - np.sin(angle) * u
    waves = min(rng.uniform(2, 6), max(diameter / 5, 1.0)) * np.pi
    phase = rng.uniform(0, 2 * np.pi)
    if kind == 0:
        pattern = 0.5 + 1.2 * np.sin(waves * a + phase)
    elif kind == 1:
        pattern = 0.5 + 2.5 * np.sin(waves * a * 0.7 + phase) * np.sin(waves * b * 0.7)
    elif kind == 2:
        pattern = 2.2 * (np.cos(waves * a * 0.8) + np.cos(waves * b * 0.8)) - 1.4
    elif kind == 3:
        pattern = noise(rng, u.shape, rng.uniform(3, 6), 4)
    else:
        pattern = 0.5 + 0.5 * a
    return np.clip(pattern, 0, 1).astype(np.float32)


def shading(
    rng: np.random.Generator, mask: np.ndarray, u: np.ndarray, v: np.ndarray, light: np.ndarray, diameter: float
) -> np.ndarray:
    """Brightness of each pixel, float32 around 1: lit and dark bevels at the edge, and a gradient across the shape.

    Args:
        mask: (h, w) bool, the shape.
        u, v: (h, w) coordinates in half-diameters.
        light: (2,) unit vector towards the light.
        diameter: in pixels.
    """
    bevel = max(rng.uniform(0.06, 0.22) * diameter, 1.5)
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    height = np.sin(np.minimum(depth / bevel, 1) * (np.pi / 2)).astype(np.float32)
    height = cv2.GaussianBlur(height, (0, 0), max(0.12 * bevel, 0.5))
    slope_x, slope_y = (
        cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=1 / 8),
        cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=1 / 8),
    )
    facing = -(slope_x * light[0] + slope_y * light[1]) * bevel
    rim = 1 - rng.uniform(0.1, 0.3) * (1 - height)
    across = 1 + rng.uniform(0.08, 0.25) * (u * light[0] + v * light[1])
    return ((1 + rng.uniform(0.15, 0.4) * facing) * rim * across).astype(np.float32)


def camera(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """Lens blur, vignette and sensor noise; (size, size, 3) float32 in 0..1 to uint8."""
    size = canvas.shape[0]
    canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.25, 0.6))
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size - 0.5
    canvas *= (1 - rng.uniform(0, 0.35) * (x * x + y * y))[..., None]
    canvas += rng.normal(0, 1, canvas.shape).astype(np.float32) * np.float32(rng.uniform(0.006, 0.022))
    return np.clip(np.rint(canvas * 255), 0, 255).astype(np.uint8)
