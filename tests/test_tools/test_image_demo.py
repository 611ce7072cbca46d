"""tools/image_demo.py: pictures and predictions.json of the three kinds of models, and what it refuses."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from pycocotools import mask as run_lengths

from mmatconv.analysis.build_model import build_model

CONFIGS = Path(__file__).parent / 'configs'


@pytest.fixture
def demo(run, tmp_path):
    """Runs the tool on images, which are named from its folder, with one of the test configs."""

    def call(images, config, *arguments):
        config = config if '::' in config else CONFIGS / config
        return run('image_demo.py', str(tmp_path / images), config, *arguments, cwd=tmp_path)

    return call


@pytest.fixture(scope='module')
def folder(shapes, tmp_path_factory):
    """Two images of different sizes, one in a folder of its own, and a file that is not an image."""
    root = tmp_path_factory.mktemp('demo')
    first, second = sorted((shapes / 'coco' / 'val').iterdir())[:2]
    cv2.imwrite(str(root / 'a.jpg'), cv2.imread(str(first)))
    (root / 'more').mkdir()
    cv2.imwrite(str(root / 'more' / 'a.png'), cv2.imread(str(second))[:64])
    (root / 'notes.txt').write_text('not an image')
    return root


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """Writes the random weights of a config's model, with classes in the checkpoint's meta or without."""

    def write(name, **meta):
        config = Config.fromfile(CONFIGS / name)
        path = tmp_path_factory.mktemp('weights') / f'{name}.pth'
        torch.manual_seed(0)
        torch.save(dict(state_dict=build_model(config, 'cpu').state_dict(), meta=meta), path)
        return path

    return write


def results(outcome, folder):
    assert outcome.status == 0, outcome.errors
    assert not folder.with_name(folder.name + '.partial').exists()
    return json.loads((folder / 'predictions.json').read_text())


def assert_drawn(images, pictures):
    for name in ('a.jpg', 'more/a.png'):
        image, picture = cv2.imread(str(images / name)), cv2.imread(str(pictures / name))
        assert picture.shape == image.shape
        # JPEG alone changes every pixel a little.
        assert (np.abs(picture.astype(int) - image).max(axis=2) > 50).sum() > 20


def test_detector(demo, detector, folder, tmp_path):
    checkpoint = detector / 'epoch_2.pth'
    options = ['--out', 'seen', '--threshold', '0.01', '--batch-size', '2']
    found = results(demo(folder, 'det.py', checkpoint, *options), tmp_path / 'seen')
    assert found['classes'] == ['disc', 'triangle', 'rectangle', 'star', 'ring']
    assert [(each['image'], each['height']) for each in found['images']] == [('a.jpg', 96), ('more/a.png', 64)]
    for image in found['images']:
        assert image['detections']
        for entry in image['detections']:
            assert found['classes'][entry['label']] == entry['class']
            assert 0.01 < entry['score'] <= 1
            x1, y1, x2, y2 = entry['box']
            assert 0 <= x1 <= x2 <= image['width']
            assert 0 <= y1 <= y2 <= image['height']
            assert run_lengths.decode(entry['mask']).shape == (image['height'], image['width'])
    assert_drawn(folder, tmp_path / 'seen' / 'pictures')


def test_segmentor(demo, weights, folder, tmp_path):
    outcome = demo(folder, 'seg.py', weights('seg.py'), '--out', 'seen')
    found = results(outcome, tmp_path / 'seen')
    for image, name in zip(found['images'], ['a.jpg.png', 'more/a.png']):
        assert image['class_map'] == f'class_maps/{name}'
        labels = cv2.imread(str(tmp_path / 'seen' / image['class_map']), cv2.IMREAD_UNCHANGED)
        assert labels.shape == (image['height'], image['width'])
        names, counts = np.unique(labels, return_counts=True)
        assert image['pixels'] == {found['classes'][label]: count for label, count in zip(names, counts)}
    assert_drawn(folder, tmp_path / 'seen' / 'pictures')


def test_classifier_on_a_video(demo, weights, folder, tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / 'clip.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 5, (96, 96))
    for _ in range(3):
        writer.write(cv2.imread(str(folder / 'a.jpg')))
    writer.release()
    checkpoint = weights('cls.py', dataset_meta=dict(classes=('dark', 'light')))
    found = results(demo('clip.avi', 'cls.py', checkpoint), tmp_path / 'demo_results')
    assert [image['image'] for image in found['images']] == ['000000', '000001', '000002']
    for image in found['images']:
        first, second = image['top5']
        assert {first['class'], second['class']} == {'dark', 'light'}
        assert first['score'] >= second['score']
        assert first['score'] + second['score'] == pytest.approx(1, abs=1e-4)  # four decimals
    video = cv2.VideoCapture(str(tmp_path / 'demo_results' / 'clip.mp4'))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert (np.abs(video.read()[1].astype(int) - cv2.imread(str(folder / 'a.jpg'))).max(axis=2) > 80).sum() > 20


def test_what_is_refused(demo, weights, folder, tmp_path):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'torn.jpg').write_bytes(b'not an image')
    checkpoint = weights('cls.py')
    for arguments, sentence in [
        (['none.jpg', 'det.py', 'x.pth'], "none.jpg' does not exist; name an image, a folder of images or a video"),
        (['empty', 'det.py', 'x.pth'], "empty' holds no image"),
        ([folder / 'notes.txt', 'det.py', 'x.pth'], 'is not an image or a video'),
        ([folder, 'no.py', 'x.pth'], "no.py' does not exist"),
        ([folder, 'mmatconv::no.py', 'x.pth'], "config 'mmatconv::no.py' is not found"),
        ([folder, 'det.py'], "det.py'; name a checkpoint after it"),
        ([folder, 'cls.py', 'x.pth'], "checkpoint 'x.pth' does not exist"),
        ([folder, 'cls.py', checkpoint, '--threshold', '2'], '--threshold 2.0 is not a score'),
        ([folder, 'cls.py', checkpoint, '--out', tmp_path], 'is not empty and is not overwritten'),
        ([folder, 'det.py', checkpoint], 'is of another model'),
        (['torn.jpg', 'cls.py', checkpoint], "torn.jpg' is not an image or is damaged; repair or remove it"),
    ]:
        outcome = demo(*arguments)
        assert outcome.status == 1
        assert sentence in outcome.sentence
        assert sorted(path.name for path in tmp_path.iterdir()) == ['empty', 'torn.jpg']
