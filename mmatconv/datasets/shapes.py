"""Scenes of textured, shaded, overlapping shapes with exact masks: the drawing half of the generated data set.

Class, colour and texture are drawn independently of each other, so only the outline tells the classes apart.
Everything random comes from the generator that the caller passes in.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

CLASSES: tuple[str, ...] = ('disc', 'triangle', 'rectangle', 'star', 'ring')
# In the label maps 0 is 'ignored', 1 is SEG_CLASSES[0], and so on: ADE20K's convention (reduce_zero_label=True).
SEG_CLASSES: tuple[str, ...] = ('background', *CLASSES)
# RGB, one for each of SEG_CLASSES; PALETTE[1:] goes with CLASSES.
PALETTE: tuple[tuple[int, int, int], ...] = (
    (96, 96, 96),
    (230, 85, 60),
    (250, 190, 40),
    (70, 170, 90),
    (60, 120, 220),
    (170, 80, 200),
)

# Longer side of a shape's box as a share of the image side.
SCALES = (0.14, 0.5)
SHAPES = (2, 5)  # fewer where no free place is found
# A shape in front is placed elsewhere where it would leave less than this share of one behind it in sight.
MIN_VISIBLE = 0.65
MIN_CONTRAST = 50.0  # distance in CIE Lab between a shape and what it is drawn on
# As bananas are mostly yellow: the share of shapes in the hue of their class, and how far they stray, in degrees.
TYPICAL = 0.9
HUE_SPREAD = 25.0
SUPERSAMPLING = 4


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
        instances: from back to front, at least one that is no crowd.
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
    return _Painter(rng, size).paint(crowd)


class _Painter:
    """The state of one drawing: the canvas, who owns each pixel, and the light that all shapes share."""

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        self.rng = rng
        self.size = size
        self.canvas = _background(rng, size)
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
        return Scene(_camera(rng, self.canvas), instances, void)

    def _add_shape(self, label: int, diameter: float) -> None:
        rng, size = self.rng, self.size
        outline = _outline(rng, label) * (diameter / 2)
        area = _area(outline)
        for _ in range(20):
            # Part of the shape, but never its middle, may lie outside the image.
            centre = rng.uniform(0.36 * diameter, size - 0.36 * diameter, 2)
            cover = _coverage(outline + centre, size)
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
            outline = _outline(rng, label) * (diameter / 2)
            for _ in range(10):
                centre = np.clip(middle + rng.normal(0, 0.08 * size, 2), diameter, size - diameter)
                if all(np.hypot(*(centre - other)) > 0.06 * size for other in taken):
                    taken.append(centre)
                    self._blend(_coverage(outline + centre, size), centre, diameter)
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
        first, second = _contrasting(rng, beneath, 2, typical)
        texture = _texture(rng, u, v, diameter)[..., None] * rng.uniform(0.3, 0.7)
        paint = first * (1 - texture) + second * texture
        paint = paint * _shading(rng, mask[part], u, v, self.light, diameter)[..., None]
        self.canvas[part] = self.canvas[part] * (1 - alpha) + np.clip(paint, 0, 1) * alpha
        self.owner[mask] = len(self.labels)
        np.maximum(self.cover, cover, out=self.cover)


def _circle(points: int, ratio: float) -> np.ndarray:
    """An ellipse with half-axes 1 and `ratio`, (points, 2)."""
    angles = np.arange(points) * (2 * np.pi / points)
    return np.stack([np.cos(angles), ratio * np.sin(angles)], 1)


def _outline(rng: np.random.Generator, label: int) -> np.ndarray:
    """A random, randomly turned outline of class `label`, scaled so that its box has half-side 1.

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
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    parts = parts @ turn
    low, high = parts.min((0, 1)), parts.max((0, 1))
    return (parts - (low + high) / 2) * (2 / (high - low).max())


def _area(parts: np.ndarray) -> float:
    """Area enclosed by the first part less that of the others, in squared units of `parts`, (parts, points, 2)."""
    x, y = parts[..., 0], parts[..., 1]
    each = 0.5 * np.abs((x * np.roll(y, -1, 1) - np.roll(x, -1, 1) * y).sum(1))
    return float(each[0] - each[1:].sum())


def _coverage(parts: np.ndarray, size: int) -> np.ndarray:
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


def _noise(
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


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Cloud, marble or grain in three related muted colours, (size, size, 3) float32 BGR in 0..1."""
    shape = (size, size)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    kind = rng.integers(3)
    stretch = rng.uniform(3, 7) if kind == 2 else 1.0
    base = _noise(rng, shape, rng.uniform(2, 5) * np.sqrt(stretch), 5, stretch)
    # Bending the noise by noise gives the folds and swirls that plain octaves lack.
    bend = rng.uniform(0.05, 0.25) * size
    bend_x = x + bend * (_noise(rng, shape, 2, 2) - 0.5)
    bend_y = y + bend * (_noise(rng, shape, 2, 2) - 0.5)
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
    patches = np.clip(_noise(rng, shape, 2.5, 3) * 2.4 - 1.1, 0, 1)[..., None] * rng.uniform(0.3, 0.8)
    canvas = canvas * (1 - patches) + colours[2] * patches
    canvas *= 1 + rng.uniform(0.05, 0.2) * (_noise(rng, shape, size / 6, 2) - 0.5)[..., None]
    angle = rng.uniform(0, 2 * np.pi)
    slope = (np.cos(angle) * (x / size - 0.5) + np.sin(angle) * (y / size - 0.5))[..., None]
    return np.clip(canvas * (1 + rng.uniform(0, 0.5) * slope), 0, 1).astype(np.float32)


def _contrasting(rng: np.random.Generator, beneath: np.ndarray, count: int, hue: float | None) -> np.ndarray:
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


def _texture(rng: np.random.Generator, u: np.ndarray, v: np.ndarray, diameter: float) -> np.ndarray:
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
        pattern = _noise(rng, u.shape, rng.uniform(3, 6), 4)
    else:
        pattern = 0.5 + 0.5 * a
    return np.clip(pattern, 0, 1).astype(np.float32)


def _shading(
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


def _camera(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """Lens blur, vignette and sensor noise; (size, size, 3) float32 in 0..1 to uint8."""
    size = canvas.shape[0]
    canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.25, 0.6))
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size - 0.5
    canvas *= (1 - rng.uniform(0, 0.35) * (x * x + y * y))[..., None]
    canvas += rng.normal(0, 1, canvas.shape).astype(np.float32) * np.float32(rng.uniform(0.006, 0.022))
    return np.clip(np.rint(canvas * 255), 0, 255).astype(np.uint8)
