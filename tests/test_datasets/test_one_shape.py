"""Pictures of one shape each."""

import colorsys
from collections import Counter

import cv2
import numpy as np
import pytest

from mmatconv import UserError
from mmatconv.datasets import CLASSES
from mmatconv.datasets.shapes.one_shape import draw_shape, write_one_shapes
from mmatconv.datasets.shapes.outlines import random_outline


def seen(image):
    """What stands out from the border of an image, and its colour."""
    border = np.median(np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]]), axis=0)
    mask = np.abs(image.astype(int) - border).max(2) > 40
    return mask, np.median(image[mask], axis=0)


@pytest.mark.parametrize('label', range(len(CLASSES)))
def test_each_picture_holds_one_whole_shape_of_its_class(label):
    """Its outline is no other's, its hue mostly that of its class."""
    near, holes = 0, Counter()
    for i in range(20):
        image = draw_shape(np.random.default_rng([0, label, i]), label, 32)
        assert image.shape == (32, 32, 3) and image.dtype == np.uint8
        mask, (blue, green, red) = seen(image)
        # It may touch the border, which is 124 pixels long.
        assert mask[0].sum() + mask[-1].sum() + mask[:, 0].sum() + mask[:, -1].sum() < 25
        assert 80 < mask.sum() < 700
        hue = 360 * colorsys.rgb_to_hsv(red, green, blue)[0]
        near += abs((hue - 72 * label + 180) % 360 - 180) < 75
        filled = mask.astype(np.uint8)
        contours, tree = cv2.findContours(filled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        holes[any(parent >= 0 and len(contour) > 12 for contour, (*_, parent) in zip(contours, tree[0]))] += 1
    # The spread of hues has a standard deviation of 25 degrees; shading and dark colours add to it.
    assert near >= 17
    assert (holes[True] > 15) if CLASSES[label] == 'ring' else (holes[False] > 15)


def test_shapes_stand_upright():
    """A star's topmost point is one of its five, above its middle."""
    for seed in range(5):
        outline = random_outline(np.random.default_rng(seed), CLASSES.index('star'), 0.25)[0]
        upright = outline @ np.array([[0, 1], [-1, 0]])
        top = upright[upright[:, 1].argmin()]
        assert abs(top[0]) < 0.5 and top[1] == -np.abs(upright[:, 1]).max()


def test_files(tmp_path):
    told = []
    write_one_shapes(tmp_path / 'a', 2, 24, seed=3, progress=lambda *each: told.append(each))
    assert told[:2] == [('disc', 1, 2), ('disc', 2, 2)] and len(told) == 10
    names = sorted(str(path.relative_to(tmp_path / 'a')) for path in (tmp_path / 'a').rglob('*.png'))
    assert names == sorted(f'{name}/00000{i}.png' for name in CLASSES for i in (1, 2))
    write_one_shapes(tmp_path / 'b', 1, 24, seed=3)
    same, again = (tmp_path / name / 'star' / '000001.png' for name in 'ab')
    assert same.read_bytes() == again.read_bytes() and cv2.imread(str(same)).shape == (24, 24, 3)
    with pytest.raises(UserError, match='is not empty and is not overwritten'):
        write_one_shapes(tmp_path / 'a', 1, 16)
    with pytest.raises(UserError, match='count is 0, expected a whole number from 1 to 1000000'):
        write_one_shapes(tmp_path / 'c', 0)
    assert not (tmp_path / 'c').exists()
