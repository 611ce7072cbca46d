"""tools/analysis_tools/static_kernels.py on models of random weights."""

import re

import pytest
import torch
from mmengine.config import Config

from mmatconv.analysis.build_model import build_model
from mmatconv.analysis.mechanisms.generated_kernels import atconv_layers

from .conftest import CONFIGS

TOOL = 'analysis_tools/static_kernels.py'


@pytest.fixture
def weights(shapes, monkeypatch, tmp_path):
    """Writes the random weights of a config, those of every ``kernel_proj`` times a factor."""
    monkeypatch.setenv('SHAPES', str(shapes))

    def write(config, factor):
        torch.manual_seed(0)
        model = build_model(Config.fromfile(str(CONFIGS / config)), 'cpu')
        for layer in atconv_layers(model).values():
            layer.kernel_proj.weight.data.mul_(factor)
            layer.kernel_gen.bias.data.normal_()
        path = tmp_path / 'random.pth'
        torch.save(model.state_dict(), path)
        return path

    return write


def scores(outcome, name):
    """With own and with mean kernels."""
    return [float(cell) for cell in re.search(rf'│ {name} +│ ([\d.]+) +│ ([\d.]+) +│', outcome.output).groups()]


@pytest.mark.parametrize('factor', [0, 100])
def test_mean_kernels_change_scores_where_kernels_vary(run, weights, tmp_path, factor):
    outcome = run(TOOL, 'seg.py', weights('seg.py', factor), cwd=tmp_path)
    assert outcome.status == 0, outcome.errors
    own, mean = scores(outcome, 'mIoU')
    over_images = re.findall(r'token_mixer │ [\d.e+]+ +│ ([\d.]+)%', outcome.output)
    assert len(over_images) == 4
    if factor:
        assert own != mean and max(map(float, over_images)) > 1
    else:
        assert own == mean > 0 and set(over_images) == {'0.0'}
    # Its log would be taken for that of a test.
    assert [path.name for path in tmp_path.iterdir()] == ['random.pth']


@pytest.mark.parametrize('config', ['seg.py', 'det.py'])
def test_means_over_the_training_images(run, weights, tmp_path, config):
    """Other images, so other kernels; the same score with the model's own."""
    both = [run(TOOL, config, weights(config, 100), *args, cwd=tmp_path) for args in (('--average', 'train'), ())]
    assert [outcome.status for outcome in both] == [0, 0], both[0].errors
    training, split = (re.findall(r'token_mixer +│ ([\d.e+]+)', outcome.output) for outcome in both)
    assert len(training) == 4 and training != split
    assert 'the training images' in both[0].output and 'the training images' not in both[1].output
    if config == 'seg.py':
        assert scores(both[0], 'mIoU')[0] == scores(both[1], 'mIoU')[0]


def test_training_on_the_split_gives_the_means_of_the_split(run, weights, tmp_path):
    """Every image once, although 5 images come 2 at a time and without end."""
    folders = dict(img_path='images/validation', seg_map_path='annotations/validation')
    options = [f'train_dataloader.dataset.data_prefix.{name}={folder}' for name, folder in folders.items()]
    both = [
        run(TOOL, 'seg.py', weights('seg.py', 100), '--cfg-options', *options, *args, cwd=tmp_path)
        for args in (('--average', 'train'), ())
    ]
    assert [outcome.status for outcome in both] == [0, 0], both[0].errors
    rows = [re.findall(r'token_mixer.*', outcome.output) for outcome in both]
    assert len(rows[0]) == 4 and rows[0] == rows[1]
    assert scores(both[0], 'mIoU') == scores(both[1], 'mIoU')


def test_averaging_over_training_images_needs_some(run, weights, tmp_path):
    config = tmp_path / 'seg.py'
    config.write_text(
        f"_base_ = '{CONFIGS / 'seg.py'}'\ntrain_dataloader = None\ntrain_cfg = None\noptim_wrapper = None\n"
    )
    outcome = run(TOOL, str(config), weights('seg.py', 1), '--average', 'train', cwd=tmp_path)
    assert outcome.status != 0 and outcome.sentence.endswith(
        'has no train_dataloader; add one, or leave out --average.'
    )


def test_training_images_that_are_not_there_are_said_before_any_evaluation(run, weights, tmp_path):
    options = ('--average', 'train', '--cfg-options', 'train_dataloader.dataset.data_root=nowhere')
    outcome = run(TOOL, 'seg.py', weights('seg.py', 1), *options, cwd=tmp_path)
    assert outcome.status != 0 and 'nowhere' in outcome.sentence and 'own kernels' not in outcome.errors


def test_a_classifier_on_its_test_split(run, weights, tmp_path):
    outcome = run(TOOL, 'cls.py', weights('cls.py', 1), '--split', 'test', cwd=tmp_path)
    assert outcome.status == 0, outcome.errors
    assert len(scores(outcome, 'top-1')) == 2 and 'test split' in outcome.output


def test_refusals(run, weights, tmp_path):
    outcome = run(TOOL, 'cls.py', 'none.pth', cwd=tmp_path)
    assert outcome.status == 1 and "'none.pth'" in outcome.sentence
    static = 'model.backbone.token_mixer.type=DepthwiseConv'
    outcome = run(TOOL, 'cls.py', weights('cls.py', 1), '--cfg-options', static, cwd=tmp_path)
    assert outcome.status == 1 and outcome.sentence.startswith('ImageClassifier has no ATConv')
    outcome = run(TOOL, 'cls.py', weights('cls.py', 1), '--cfg-options', 'val_dataloader=None', cwd=tmp_path)
    assert outcome.status == 1 and 'has no val_dataloader' in outcome.sentence
