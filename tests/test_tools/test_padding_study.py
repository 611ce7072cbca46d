"""The padding study on a detector of random weights."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmatconv import UserError
from mmatconv.analysis.build_model import build_model
from mmatconv.analysis.padding_study import image_files, load_model, study

CONFIGS = Path(__file__).parent / 'configs'


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    torch.manual_seed(0)
    model = build_model(Config.fromfile(str(CONFIGS / 'det.py')), 'cpu')
    for parameter in model.roi_head.bbox_head.parameters():
        parameter.data.normal_(std=0.05)
    path = tmp_path_factory.mktemp('weights') / 'random.pth'
    torch.save(model.state_dict(), path)
    return str(path)


@pytest.fixture
def config(shapes, monkeypatch):
    monkeypatch.setenv('SHAPES', str(shapes))
    config = Config.fromfile(str(CONFIGS / 'det.py'))
    config.merge_from_dict({'model.test_cfg.rcnn.score_thr': 0.0})
    return config


def test_kernels_and_detections_stay_only_with_the_option(config, weights, shapes):
    files = image_files(str(shapes / 'coco' / 'val'), 2)
    without, with_option = (
        list(study(load_model(config, weights, mask_padding), config, files, 0.5, 0.1))
        for mask_padding in (False, True)
    )
    assert [change.name for change in with_option] == [file.name for file in files]
    for before, after in zip(without, with_option):
        assert before.kernels > 1e-2 > 1e-5 > after.kernels
        assert after.detections == after.found > 0
        assert after.score < 1e-4 < before.score or before.found < before.detections


def test_other_backbones_are_refused(weights):
    config = Config.fromfile('configs/mask_rcnn/mask-rcnn_pvt-t_fpn_1x_coco.py')
    with pytest.raises(UserError, match=r'a backbone of mmatconv, but the config has mmdet\.Pyramid'):
        load_model(config, weights, True)


def test_tool(weights, shapes, run, tmp_path):
    def call(*arguments):
        return run('analysis_tools/padding_study.py', 'det.py', weights, *arguments, cwd=tmp_path)

    outcome = call(shapes / 'coco' / 'val', '--count', 1)
    assert outcome.status == 0, outcome.errors
    assert 'padded by 25% of height and width' in outcome.output and 'command: python ' in outcome.output
    assert call('nowhere').sentence.startswith("'nowhere' is not a folder")
