"""tools/test.py --fold: the predictions and scores of the model as it was trained."""

import json
import logging
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel, BaseTTAModel
from torch import nn

from mmatconv import ATConv
from mmatconv.analysis.build_model import build_model
from mmatconv.deploy.folded_atconv import FoldedATConv
from mmatconv.engine.hooks.fold import FoldHook

CONFIGS = Path(__file__).parent / 'configs'
LINE = '--fold: folded 5 BatchNorm, 8 LayerNorm, 8 LayerScale, 4 RMSNorm gain, 4 kernel modulation'


def random_state(config, seed):
    """A state in which no norm and no scale of the backbone is near one."""
    torch.manual_seed(seed)
    model = build_model(Config.fromfile(str(CONFIGS / config)), 'cpu')
    for name, tensor in [*model.backbone.named_parameters(), *model.backbone.named_buffers()]:
        if tensor.dim() == 1:
            tensor.data.copy_(torch.rand_like(tensor) + 0.2 if 'running_var' in name else torch.randn_like(tensor))
    return model.state_dict()


def scores_of(work_dir):
    scores = json.loads(next(work_dir.glob('2*/2*.json')).read_text())
    return {name: value for name, value in scores.items() if 'time' not in name}


@pytest.fixture
def folded_and_not(environment, tmp_path):
    """Runs tools/test.py with and without --fold; the output of both, and scores and predictions of each."""

    def call(*args):
        calls = []
        for name, options in (('plain', []), ('folded', ['--fold'])):
            own = ['--work-dir', name, '--out', f'{name}.pkl', '--cfg-options', f'experiment_name={name}']
            calls.append([*map(str, args), *options, *own])
        # In one process, since loading the packages takes longer than the tests.
        program = f'from mmatconv.engine.cli.test import test\nassert [test(call) for call in {calls}] == [0, 0]'
        outcome = subprocess.run(
            [sys.executable, '-c', program], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert outcome.returncode == 0, outcome.stderr
        names = ('plain', 'folded')
        predictions = [pickle.loads((tmp_path / f'{name}.pkl').read_bytes()) for name in names]
        return outcome.stdout, [scores_of(tmp_path / name) for name in names], predictions

    return call


def test_classifier_with_averaged_weights(folded_and_not, tmp_path):
    """EMAHook exchanges weights before the evaluation, after it, and evaluates once more."""
    averaged = {f'module.{name}': value for name, value in random_state('cls.py', 1).items()}
    averaged['steps'] = torch.tensor(0)
    torch.save({'state_dict': random_state('cls.py', 0), 'ema_state_dict': averaged}, tmp_path / 'random.pth')
    hook = dict(type='EMAHook', evaluate_on_origin=True, update_buffers=True)
    config = tmp_path / 'ema.py'
    config.write_text(f"_base_ = '{CONFIGS / 'cls.py'}'\ncustom_hooks = [{hook}]\n")
    output, scores, predictions = folded_and_not(config, 'random.pth')
    assert output.count('--fold') == output.count(LINE) == 2
    assert scores[0] == scores[1]
    assert len(predictions[0]) == 4
    for one, two in zip(*predictions, strict=True):
        torch.testing.assert_close(two['pred_score'], one['pred_score'], rtol=0, atol=1e-5)


def test_augmented_segmentor(folded_and_not, tmp_path):
    torch.save({'state_dict': random_state('seg.py', 0)}, tmp_path / 'random.pth')
    output, scores, predictions = folded_and_not(CONFIGS / 'seg.py', 'random.pth', '--tta')
    assert output.count('--fold') == output.count(LINE) == 1
    assert scores[1] == pytest.approx(scores[0], abs=0.02)
    assert scores[0]['mIoU'] > 0
    for one, two in zip(*predictions, strict=True):
        maps = [entry['pred_sem_seg']['data'] for entry in (one, two)]
        assert len(maps[0].unique()) > 1
        assert (maps[0] == maps[1]).float().mean() > 0.999


def test_wrapped_models_get_the_folded_one_and_their_own_back():
    """As on several processes, where a wrapper holds the model, and the augmentation holds it inside."""

    class Augmentation(BaseTTAModel):
        def merge_preds(self, data_samples_list):
            return data_samples_list

    class Model(BaseModel):
        def __init__(self):
            super().__init__()
            self.layer = ATConv(4)

        def forward(self, inputs, data_samples=None, mode='tensor'):
            return inputs

    model = Model().eval()
    wrapper = nn.DataParallel(Augmentation(model).eval())
    runner = SimpleNamespace(model=wrapper, test_dataloader=[None] * 2, logger=logging.getLogger('test'))
    hook = FoldHook()
    seen = []
    for index in range(2):
        hook.before_test_iter(runner, index)
        seen.append(type(runner.model.module.module.layer))
        hook.after_test_iter(runner, index)
    assert seen == [FoldedATConv] * 2
    assert runner.model is wrapper
    assert wrapper.module.module is model and type(model.layer) is ATConv
