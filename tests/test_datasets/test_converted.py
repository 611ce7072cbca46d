"""Converters of public data sets, on folders made as the public ones are."""

import json

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mmatconv.datasets.camvid import CLASSES, convert_camvid
from mmatconv.datasets.nuclei import convert_nuclei
from mmatconv.engine.cli.convert_dataset import convert_dataset
from mmatconv.errors import UserError

MODALITIES = {'fluorescence': (20, 20, 20), 'bright field': (210, 210, 210), 'stained': (150, 90, 190)}


@pytest.fixture
def stage1_train(tmp_path):
    """Ten images of each modality in RGBA, each with two nuclei."""
    for modality, colour in MODALITIES.items():
        for number in range(10):
            folder = tmp_path / 'stage1_train' / f'{modality[0]}{number}'
            for kind in ('images', 'masks'):
                (folder / kind).mkdir(parents=True)
            image = np.full((24, 20, 4), (*colour, 255), np.uint8)
            cv2.imwrite(str(folder / 'images' / f'{folder.name}.png'), image)
            for nucleus in range(2):
                mask = np.zeros((24, 20), np.uint8)
                mask[4 : 8 + number, 3 + 8 * nucleus : 6 + 8 * nucleus] = 255
                cv2.imwrite(str(folder / 'masks' / f'{nucleus}.png'), mask)
    return tmp_path / 'stage1_train'


def test_nuclei_become_coco(stage1_train, tmp_path):
    counts = convert_nuclei(stage1_train, tmp_path / 'nuclei')
    assert counts == dict(train=21, val=3, test=6)
    splits = json.loads((tmp_path / 'nuclei' / 'splits.json').read_text())
    for modality in MODALITIES:
        assert sum(entry == dict(split='test', modality=modality) for entry in splits.values()) == 2
    content = json.loads((tmp_path / 'nuclei' / 'annotations' / 'instances_test.json').read_text())
    assert [category['name'] for category in content['categories']] == ['nucleus']
    assert len(content['annotations']) == 2 * len(content['images']) == 12
    images = {image['id']: image for image in content['images']}
    for annotation in content['annotations']:
        number = int(images[annotation['image_id']]['file_name'][1])
        assert annotation['bbox'][1:] == [4, 3, 4 + number]
        assert coco_mask.decode(annotation['segmentation']).sum() == annotation['area'] == 3 * (4 + number)
    image = cv2.imread(str(tmp_path / 'nuclei' / 'test' / content['images'][0]['file_name']), cv2.IMREAD_UNCHANGED)
    assert image.shape == (24, 20, 3)


def test_the_split_is_the_same_each_time(stage1_train, tmp_path):
    convert_nuclei(stage1_train, tmp_path / 'a')
    convert_nuclei(stage1_train, tmp_path / 'b')
    assert (tmp_path / 'a' / 'splits.json').read_bytes() == (tmp_path / 'b' / 'splits.json').read_bytes()


@pytest.fixture
def camvid(tmp_path):
    for split in ('train', 'val', 'test'):
        for folder, content in ((split, np.zeros((6, 8, 3))), (f'{split}annot', np.arange(48).reshape(6, 8) % 12)):
            (tmp_path / 'CamVid' / folder).mkdir(parents=True)
            cv2.imwrite(str(tmp_path / 'CamVid' / folder / '0001.png'), content.astype(np.uint8))
    return tmp_path / 'CamVid'


def test_camvid_leaves_pixels_without_a_class_out(camvid, tmp_path):
    assert convert_camvid(camvid, tmp_path / 'camvid') == dict(train=1, val=1, test=1)
    labels = cv2.imread(str(tmp_path / 'camvid' / 'annotations' / 'val' / '0001.png'), cv2.IMREAD_UNCHANGED)
    assert set(np.unique(labels)) == {*range(len(CLASSES)), 255}
    assert (tmp_path / 'camvid' / 'images' / 'val' / '0001.png').is_file()


def test_nothing_is_overwritten_and_nothing_is_left_half_written(camvid, tmp_path, capfd):
    target = tmp_path / 'camvid'
    (camvid / 'testannot' / '0001.png').write_bytes(b'')
    with pytest.raises(UserError, match='missing or damaged'):
        convert_camvid(camvid, target)
    assert not target.exists() and not target.with_name('camvid.partial').exists()
    target.mkdir()
    (target / 'mine.txt').write_text('mine')
    assert convert_dataset('camvid', '', [str(camvid), str(target)]) == 1
    assert 'is not empty and is not overwritten' in capfd.readouterr().err
    assert (target / 'mine.txt').read_text() == 'mine'


@pytest.mark.parametrize(('convert', 'sentence'), [(convert_nuclei, 'stage1_train'), (convert_camvid, 'SegNet')])
def test_another_folder_is_refused(convert, sentence, tmp_path):
    with pytest.raises(UserError, match=sentence):
        convert(tmp_path / 'nothing', tmp_path / 'target')
