"""tools/deployment/export_onnx.py, and tools/test.py with what it writes."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.structures import BaseDataElement, InstanceData

from mmatconv.analysis.build_model import build_model
from mmatconv.deploy.export.agreement import compare

pytestmark = pytest.mark.newer_torch

CONFIGS = Path(__file__).parent / 'configs'
TOOL = Path(__file__).parents[2] / 'tools' / 'deployment' / 'export_onnx.py'


def random_weights(config, path):
    """Weights whose class scores differ, so that there are detections of several classes."""
    torch.manual_seed(0)
    model = build_model(Config.fromfile(CONFIGS / config), 'cpu')
    for name, parameter in model.named_parameters():
        if any(layer in name for layer in ('fc_cls', 'rpn_cls', 'conv_seg', 'head.fc')):
            torch.nn.init.normal_(parameter, 0, 0.3)
    torch.save({'state_dict': model.state_dict()}, path)
    return path


@pytest.fixture
def evaluated(environment, tmp_path):
    """Exports random weights and tests both files in one process; scores and predictions of each."""

    def call(config, *arguments):
        file = CONFIGS / config
        random_weights(config, tmp_path / 'random.pth')
        tests = []
        for name in ('random.pth', 'random.onnx'):
            own = ['--work-dir', name[-4:], '--out', f'{name}.pkl', '--cfg-options', f'experiment_name={name[-4:]}']
            tests.append([str(file), name, *own])
        program = f"""
import runpy, sys
sys.argv = {[str(TOOL), str(file), 'random.pth', 'random.onnx', *arguments]}
try:
    runpy.run_path(sys.argv[0], run_name='__main__')
except SystemExit as end:
    assert not end.code, end.code
from mmatconv.engine.cli.test import test
assert [test(call) for call in {tests}] == [0, 0]
"""
        outcome = subprocess.run(
            [sys.executable, '-c', program], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert outcome.returncode == 0, outcome.stderr
        found = []
        for name in ('random.pth', 'random.onnx'):
            scores = json.loads(next((tmp_path / name[-4:]).glob('2*/2*.json')).read_text())
            scores = {key: value for key, value in scores.items() if 'time' not in key}
            found.append((scores, pickle.loads((tmp_path / f'{name}.pkl').read_bytes())))
        return outcome.stdout, *zip(*found)

    return call


@pytest.mark.slow
def test_detector_scores_as_in_pytorch(evaluated):
    output, scores, predictions = evaluated('det.py')
    assert 'compared with PyTorch at 64 x 64' in output and "'random.onnx' is written" in output
    assert scores[1] == pytest.approx(scores[0], abs=1e-3)
    detections = 0
    for pair in zip(*predictions, strict=True):
        one, two = (InstanceData(**entry['pred_instances']) for entry in pair)
        for side in (one, two):
            del side.masks  # as run lengths here
        assert compare(BaseDataElement(pred_instances=one), BaseDataElement(pred_instances=two), 0.05, 20).good
        detections += len(one)
    assert detections > 5


@pytest.mark.slow
def test_segmentor_scores_as_in_pytorch(evaluated):
    output, scores, predictions = evaluated('seg.py', '--dynamic', '--cfg-options', 'model.backbone.mask_padding=True')
    assert 'compared with PyTorch at 64 x 64' in output and 'compared with PyTorch at 48 x 48' in output
    assert scores[1] == pytest.approx(scores[0], abs=0.1)  # in percent
    assert scores[0]['mIoU'] > 0
    for one, two in zip(*predictions, strict=True):
        maps = [entry['pred_sem_seg']['data'] for entry in (one, two)]
        assert len(maps[0].unique()) > 1
        assert (maps[0] == maps[1]).float().mean() > 0.999


def test_what_is_refused_before_anything_is_built(run, tmp_path):
    def sentence(*arguments):
        outcome = run('deployment/export_onnx.py', 'det.py', *arguments, cwd=tmp_path)
        assert outcome.status == 1
        return outcome.sentence

    (tmp_path / 'there.onnx').write_text('mine')
    assert "'there.onnx' exists already" in sentence('a.pth', 'there.onnx')
    assert (tmp_path / 'there.onnx').read_text() == 'mine'
    assert "'a.trt' must end in .onnx or .pt2" in sentence('a.pth', 'a.trt')
    assert "the folder 'no' does not exist" in sentence('a.pth', 'no/a.onnx')
    assert "checkpoint 'a.pth' does not exist" in sentence('a.pth', 'b.onnx')
    assert not (tmp_path / 'b.onnx').exists()


def test_test_refuses_what_it_cannot_evaluate(run, tmp_path):
    (tmp_path / 'a.onnx').write_text('not a graph')
    outcome = run('test.py', 'det.py', 'a.onnx', '--fold', cwd=tmp_path)
    assert outcome.status == 1
    assert "--fold does not go with the exported model 'a.onnx'" in outcome.sentence
    outcome = run('test.py', 'det.py', 'a.onnx', cwd=tmp_path)
    assert outcome.status == 1
    assert "'a.onnx' cannot be read as an ONNX model" in outcome.sentence
