"""A small generated data set for all tests of this folder."""

import pytest
from pycocotools.coco import COCO

from mmatconv.datasets import write_shapes


@pytest.fixture(scope='session')
def small():
    """The settings of `root`."""
    return {'train': 10, 'val': 9, 'size': 96}


@pytest.fixture(scope='session')
def root(tmp_path_factory, small):
    """The folder of a data set that no test changes."""
    root = tmp_path_factory.mktemp('shapes') / 'data'
    assert write_shapes(root, **small)
    return root


@pytest.fixture(scope='session')
def load():
    """Reads a split: COCO's json, and (annotation, decoded mask) pairs, the masks (height, width) bool."""

    def read(root, split):
        coco = COCO(str(root / 'coco' / 'annotations' / f'instances_{split}.json'))
        annotations = coco.loadAnns(coco.getAnnIds())
        return coco.dataset, [(a, coco.annToMask(a).astype(bool)) for a in annotations]

    return read
