"""The configs of docs/own_data.md, from the public folders' layout to scores, by the tools themselves."""

import json

import cv2
import numpy as np
import pytest

from mmatconv.datasets.camvid import CLASSES, convert_camvid
from mmatconv.datasets.nuclei import convert_nuclei

from ..reading import read_config

NUCLEI = 'configs/own_data/mask-rcnn_attnet-xxs_fpn_nuclei.py'
CAMVID = 'configs/own_data/fpn_attnet-xxs_camvid.py'
SMALL = ('train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False')
SMALL += tuple(option.replace('train', 'val') for option in SMALL)


@pytest.fixture
def nuclei(tmp_path):
    """Ten images, of which seven are for training, with four nuclei each."""
    source = tmp_path / 'stage1_train'
    for number in range(10):
        folder = source / str(number)
        for kind in ('images', 'masks'):
            (folder / kind).mkdir(parents=True)
        image = np.full((64, 64, 4), 20, np.uint8)
        for nucleus in range(4):
            mask = np.zeros((64, 64), np.uint8)
            cv2.circle(mask, (16 + 32 * (nucleus % 2), 16 + 32 * (nucleus // 2)), 6 + number % 4, 255, -1)
            image[mask > 0] = 220
            cv2.imwrite(str(folder / 'masks' / f'{nucleus}.png'), mask)
        cv2.imwrite(str(folder / 'images' / f'{number}.png'), image)
    convert_nuclei(source, tmp_path / 'data' / 'nuclei')
    return tmp_path


@pytest.fixture
def camvid(tmp_path):
    """Two images of 48 x 36 in each split, with all classes and pixels without one."""
    labels = np.arange(36)[:, None] // 3 * np.ones((1, 48), int)
    for split in ('train', 'val', 'test'):
        for folder, content in ((split, np.stack([20 * labels] * 3, -1)), (f'{split}annot', labels)):
            (tmp_path / 'CamVid' / folder).mkdir(parents=True)
            for number in range(2):
                cv2.imwrite(str(tmp_path / 'CamVid' / folder / f'{number}.png'), content.astype(np.uint8))
    convert_camvid(tmp_path / 'CamVid', tmp_path / 'data' / 'camvid')
    return tmp_path


def scores_of(work_dir):
    scalars = next(work_dir.glob('2*/vis_data/scalars.json')).read_text().splitlines()
    return {name: value for line in scalars for name, value in json.loads(line).items()}


def test_nuclei_from_folder_to_scores(run, nuclei):
    options = ('--cfg-options', 'train_cfg.max_epochs=1', 'train_cfg.val_interval=1', 'default_hooks.logger.interval=1')
    outcome = run('train.py', NUCLEI, *options, *SMALL, cwd=nuclei)
    assert outcome.status == 0, outcome.errors
    scores = scores_of(nuclei / 'work_dirs' / 'mask-rcnn_attnet-xxs_fpn_nuclei')
    assert np.isfinite(scores['loss']) and 0 <= scores['coco/segm_mAP'] <= 1 and 0 <= scores['coco/bbox_mAP'] <= 1


def test_camvid_from_folder_to_scores(run, camvid):
    options = ('--cfg-options', 'train_cfg.max_iters=1', 'train_cfg.val_interval=1', 'default_hooks.logger.interval=1')
    options += ('train_dataloader.batch_size=2', 'param_scheduler=None')
    outcome = run('train.py', CAMVID, *options, *SMALL, cwd=camvid)
    assert outcome.status == 0, outcome.errors
    scores = scores_of(camvid / 'work_dirs' / 'fpn_attnet-xxs_camvid')
    assert np.isfinite(scores['loss']) and 0 <= scores['mIoU'] <= 100


def test_camvid_names_the_classes_of_the_converter():
    config = read_config(CAMVID)
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        assert loader.dataset.metainfo.classes == CLASSES
        assert len(loader.dataset.metainfo.palette) == len(CLASSES) == config.model.decode_head.num_classes
        assert not loader.dataset.reduce_zero_label
