"""The generated data set: what is drawn, and how its annotations say it."""

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mmatconv.datasets import CLASSES, PALETTE, SEG_CLASSES, draw_scene, preview
from mmatconv.datasets.shapes.coco_annotations import polygons, run_lengths
from mmatconv.datasets.shapes.scene import MIN_VISIBLE, Painter


def test_names_go_together():
    assert SEG_CLASSES == ('background', *CLASSES)
    assert len(PALETTE) == len(SEG_CLASSES) == len(set(PALETTE))


@pytest.mark.parametrize('size', [64, 96, 131])
def test_scene(size):
    for i in range(12):
        scene = draw_scene(np.random.default_rng(i), size, crowd=i % 2 == 0)
        assert scene.image.shape == (size, size, 3) and scene.image.dtype == np.uint8
        assert [instance.crowd for instance in scene.instances[1:]] == [False] * (len(scene.instances) - 1)
        assert scene.instances[0].crowd == (i % 2 == 0)
        assert 1 <= sum(not instance.crowd for instance in scene.instances) <= 5
        assert max(np.sum([instance.mask for instance in scene.instances], 0).ravel()) == 1  # no overlap
        assert not any((instance.mask & scene.void).any() for instance in scene.instances)
        assert all(instance.mask.sum() >= 8 for instance in scene.instances)
        assert scene.void.mean() < 0.05


def test_equal_generators_give_equal_scenes():
    first, second = (draw_scene(np.random.default_rng(3), 96, crowd=True) for _ in range(2))
    other = draw_scene(np.random.default_rng(4), 96, crowd=True)
    assert np.array_equal(first.image, second.image) and np.array_equal(first.labels(), second.labels())
    assert not np.array_equal(first.image, other.image)


def test_shapes_stay_in_sight():
    shares = []
    for i in range(40):
        painter = Painter(np.random.default_rng([1, i]), 96)
        scene = painter.paint(crowd=i % 2 == 0)
        shares += [instance.mask.sum() / area for instance, area in zip(scene.instances, painter.areas)]
    assert min(shares) >= MIN_VISIBLE
    assert np.mean(np.array(shares) < 0.8) > 0.05  # and yet they do hide each other


def test_shapes_stand_out():
    contrast = []
    for i in range(30):
        scene = draw_scene(np.random.default_rng([1, i]), 96)
        lab = cv2.cvtColor(scene.image.astype(np.float32) / 255, cv2.COLOR_BGR2Lab)
        for instance in scene.instances:
            near = cv2.dilate(instance.mask.astype(np.uint8), np.ones((9, 9))).astype(bool) & ~instance.mask
            contrast.append(np.linalg.norm(lab[instance.mask].mean(0) - lab[near].mean(0)))
    assert np.median(contrast) > 25 and np.mean(np.array(contrast) > 10) > 0.95


def test_polygon_of_a_box():
    mask = np.zeros((20, 30), bool)
    mask[4:9, 6:18] = True
    (polygon,) = polygons(mask)
    points = np.array(polygon).reshape(-1, 2)
    assert points.min(0).tolist() == [6, 4] and points.max(0).tolist() == [18, 9]
    assert coco_mask.toBbox(coco_mask.frPyObjects([polygon], 20, 30)).tolist() == [[6, 4, 12, 5]]


def test_polygons_are_exact_for_any_mask_without_holes():
    rng = np.random.default_rng(0)
    pieces = []
    for _ in range(60):
        mask = cv2.GaussianBlur(rng.random((40, 50)), (0, 0), rng.uniform(0.5, 4)) > 0.5
        if rng.random() < 0.5:
            mask[10:] = False
        result = polygons(mask)
        contours, hierarchy = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        if (hierarchy[0, :, 3] >= 0).any():
            assert result is None
        else:
            pieces.append(len(result))
            assert len(result) == len(contours)
            decoded = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(result, 40, 50)))
            assert np.array_equal(decoded.astype(bool), mask)
    assert len(pieces) > 10 and max(pieces) > 3


@pytest.mark.parametrize('y,x', [(0, 0), (7, 0), (0, 9), (7, 9), (3, 4)])
def test_polygon_of_one_pixel(y, x):
    mask = np.zeros((8, 10), bool)
    mask[y, x] = True
    decoded = coco_mask.decode(coco_mask.frPyObjects(polygons(mask), 8, 10))[..., 0]
    assert np.array_equal(decoded.astype(bool), mask)


def test_polygon_of_nothing_and_of_everything():
    assert polygons(np.zeros((8, 8), bool)) is None
    assert coco_mask.area(coco_mask.frPyObjects(polygons(np.ones((8, 8), bool)), 8, 8)).tolist() == [64]


@pytest.mark.parametrize('first', [0, 1])
def test_run_lengths(first):
    mask = np.random.default_rng(0).random((7, 5)) > 0.5
    mask[0, 0] = first
    rle = coco_mask.frPyObjects({'size': [7, 5], 'counts': run_lengths(mask)}, 7, 5)
    assert np.array_equal(coco_mask.decode(rle).astype(bool), mask)


@pytest.mark.parametrize('split', ['train', 'val'])
def test_annotations_agree_with_their_masks(root, split, load):
    dataset, annotations = load(root, split)
    assert [c['id'] for c in dataset['categories']] == [1, 2, 3, 4, 5]
    assert tuple(c['name'] for c in dataset['categories']) == CLASSES
    assert set(dataset) == {'info', 'licenses', 'images', 'annotations', 'categories'}
    assert [a['id'] for a, _ in annotations] == list(range(1, len(annotations) + 1))
    assert {a['image_id'] for a, _ in annotations if not a['iscrowd']} == {i['id'] for i in dataset['images']}
    for annotation, mask in annotations:
        y, x = np.nonzero(mask)
        assert annotation['bbox'] == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
        assert annotation['area'] == mask.sum() > 0
    # Each of COCO's three kinds occurs, each where it should.
    kinds = {(a['iscrowd'], type(a['segmentation']).__name__) for a, _ in annotations}
    assert kinds == {(0, 'list'), (0, 'dict'), (1, 'dict')}
    assert {type(a['segmentation']['counts']) for a, _ in annotations if a['iscrowd']} == {list}
    assert {
        CLASSES[a['category_id'] - 1]
        for a, _ in annotations
        if not a['iscrowd'] and isinstance(a['segmentation'], dict)
    } >= {'ring'}


@pytest.mark.parametrize('split,folder', [('train', 'training'), ('val', 'validation')])
def test_instances_agree_with_the_label_map(root, split, folder, load):
    dataset, annotations = load(root, split)
    ignored = 0
    for image in dataset['images']:
        name = image['file_name'].replace('.jpg', '.png')
        labels = cv2.imread(str(root / 'ade' / 'annotations' / folder / name), cv2.IMREAD_UNCHANGED)
        expected = np.ones_like(labels)
        for annotation, mask in annotations:
            if annotation['image_id'] == image['id']:
                assert (expected[mask] == 1).all()  # instances do not overlap
                expected[mask] = annotation['category_id'] + 1
        known = labels > 0
        assert np.array_equal(labels[known], expected[known])
        assert (expected[~known] == 1).all()  # only background is ever ignored
        ignored += int((~known).sum())
    assert ignored > 0


def test_written_scene_is_the_drawn_one(root):
    scene = draw_scene(np.random.default_rng([0, 1, 8]), 96, crowd=True)
    labels = cv2.imread(str(root / 'ade/annotations/validation/000000000009.png'), cv2.IMREAD_UNCHANGED)
    picture = cv2.imread(str(root / 'coco/val/000000000009.jpg'))
    assert np.array_equal(labels, scene.labels())
    assert np.abs(picture.astype(int) - scene.image).mean() < 6  # JPEG


def test_preview(root):
    grid = preview(root, 'val', count=5, columns=3)
    assert grid.shape == (2 * 96, 3 * 2 * 96, 3)
    assert np.array_equal(grid[:96, :96], cv2.imread(str(root / 'coco/val/000000000001.jpg')))
    assert not grid[96:, -2 * 96 :].any()  # five pairs leave the sixth place empty
