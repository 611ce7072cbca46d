"""A run of a study becomes weights, log, card and results in the metafile; what cannot be published writes nothing."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config, utils

from mmatconv.analysis.build_model import build_model
from mmatconv.analysis.publish import run as publish
from mmatconv.analysis.study.protocol import fingerprint
from mmatconv.checkpoint.reader import read_checkpoint
from mmatconv.engine.cli import report
from mmatconv.engine.cli.convert import publish as tool
from mmatconv.errors import UserError

from ..reading import load_once

ROOT = Path(__file__).parents[2]
CONFIG = f'''"""What it is."""

_base_ = '{ROOT}/configs/own_data/fpn_attnet-xxs_camvid.py'
model = dict(
    backbone=dict(arch=dict(_delete_=True, depths=[1, 1, 1, 1], dims=[8, 16, 24, 32], exp_rates=2)),
    neck=dict(in_channels=[8, 16, 24, 32], out_channels=16),
    decode_head=dict(in_channels=[16] * 4, channels=16),
)
test_dataloader = dict(num_workers=0, persistent_workers=False)
'''
METAFILE = """# Kept.
Models:
  - Name: small_camvid
    Config: configs/mini/small_camvid.py
    Metadata: {Architecture: [Semantic FPN, AttNet], Parameters: 1234}
    Status: not trained yet

  - Name: other
    Config: configs/mini/other.py
    Metadata: {Parameters: 1}
    Status: not trained yet
"""
SCORES = dict(test={'mIoU': 45.16, 'aAcc': 80.0}, validation={'mIoU': 50.0, 'aAcc': 81.0}, failed='')


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with one config that is not trained yet, and the images of ours."""
    monkeypatch.setattr(utils, 'load', load_once)
    root = tmp_path / 'project'
    (root / 'configs' / 'mini').mkdir(parents=True)
    (root / 'weights').mkdir()
    (root / 'model-index.yml').write_text('Import: [configs/mini/metafile.yml]\n')
    (root / 'configs' / 'mini' / 'metafile.yml').write_text(METAFILE)
    (root / 'configs' / 'mini' / 'small_camvid.py').write_text(CONFIG)
    shutil.copytree(ROOT / 'tests' / 'data' / 'camvid', root / 'tests' / 'data' / 'camvid')
    return root


@pytest.fixture
def study_run(project, tmp_path):
    """Its run with the second of three seeds; the third is not tested yet."""
    config = Config.fromfile(project / 'configs' / 'mini' / 'small_camvid.py')
    for seed, scores in enumerate((dict(test={'mIoU': 40.0}, validation={'mIoU': 44.0}), SCORES, dict(test={}))):
        folder = tmp_path / 'runs' / f'small_lr0.002_seed{seed}'
        folder.mkdir(parents=True)
        (folder / 'result.json').write_text(json.dumps(dict(scores, fingerprint=fingerprint(config))))
    folder = tmp_path / 'runs' / 'small_lr0.002_seed1'
    torch.manual_seed(0)
    state = build_model(config, 'cpu').state_dict()
    torch.save(dict(state_dict=state, meta=dict(iter=3, cfg='at /somewhere')), folder / 'iter_3.pth')
    (folder / 'last_checkpoint').write_text('/somewhere/iter_3.pth')
    (folder / '20260101_000000' / 'vis_data').mkdir(parents=True)
    (folder / '20260101_000000' / 'vis_data' / 'scalars.json').write_text('{"loss": 1.0, "iter": 3}\n')
    return folder


def contents(root):
    return {path: path.read_bytes() for path in root.rglob('*') if path.is_file()}


@pytest.mark.slow
def test_a_run_is_published_by_the_tool(project, study_run, capfd, monkeypatch):
    monkeypatch.setattr(report, '_catch_signals', lambda: None)
    config = project / 'configs' / 'mini' / 'small_camvid.py'
    assert tool('', publish.publish_run, [str(study_run), str(config)]) == 0, capfd.readouterr().err
    (weights,) = (project / 'weights').glob('small_camvid-*.safetensors')
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert weights.stem == f'small_camvid-{digest[:8]}'
    trained = torch.load(study_run / 'iter_3.pth')['state_dict']
    state = read_checkpoint(weights)['state_dict']
    assert state.keys() == trained.keys() and all(torch.equal(state[name], trained[name]) for name in trained)
    assert b'somewhere' not in weights.read_bytes()
    assert (project / 'weights' / 'small_camvid.log').read_text() == '{"loss": 1.0, "iter": 3}\n'

    card = (project / 'weights' / 'small_camvid.md').read_text()
    assert card.startswith('# small_camvid\n\nWhat it is.\n')
    for part in (digest, '| test split | 45.2 | 80.0 |', '| validation split | 50.0 | 81.0 |', 'CC BY-NC 4.0'):
        assert part in card
    assert '4000 iterations of 4 images, AdamW with a peak learning rate of 0.002, seed 0' in card
    # Random weights on four images: seldom right, but a number.
    assert re.search(r'a few of the test split \| \d+\.\d \| \d+\.\d \|\n', card)
    assert f'weights/{weights.name} \\\n    --cfg-options test_dataloader.dataset.data_root=tests/data/camvid\n' in card
    assert '| 0 | 44.0 | 40.0 |\n| 1 | 50.0 | 45.2 |\n\n' in card

    text = (project / 'configs' / 'mini' / 'metafile.yml').read_text()
    assert text.startswith('# Kept.\n') and text.endswith(METAFILE.split('\n\n')[1])
    model = yaml.safe_load(text)['Models'][0]
    metrics = {'mIoU': 45.2, 'aAcc': 80.0}
    assert model['Results'] == [dict(Task='Semantic Segmentation', Dataset='CamVid', Metrics=metrics)]
    assert model['Weights'] == f'mmatconv://{weights.name}' and 'Status' not in model
    assert f'tools/test.py configs/mini/small_camvid.py weights/{weights.name}' in model['Measured By']
    listed = (project / 'configs' / 'README.md').read_text()
    assert '45.2 mIoU, 80.0 aAcc ([card](../weights/small_camvid.md)) |' in listed

    after = contents(project)
    with pytest.raises(UserError, match=r"weights/small_camvid-\w+.safetensors' exists already; delete the files"):
        publish.publish_run(study_run, str(config))
    assert contents(project) == after


def set_result(run, **changes):
    file = run / 'result.json'
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def break_learning_rate(project, run):
    config = project / 'configs' / 'mini' / 'small_camvid.py'
    config.write_text(config.read_text() + 'optim_wrapper = dict(optimizer=dict(lr=0.5))\n')


def break_test(project, run):
    set_result(run, test={})


def break_metafile(project, run):
    metafile = project / 'configs' / 'mini' / 'metafile.yml'
    metafile.write_text(METAFILE.replace('Name: small_camvid', 'Name: smaller'))


def break_trained(project, run):
    metafile = project / 'configs' / 'mini' / 'metafile.yml'
    metafile.write_text(METAFILE.replace('Status: not trained yet', 'Status: trained'))


def break_data(project, run):
    config = project / 'configs' / 'mini' / 'small_camvid.py'
    config.write_text(config.read_text() + "test_dataloader['dataset'] = dict(data_root='data/mine')\n")
    set_result(run, fingerprint=fingerprint(Config.fromfile(config)))


REFUSALS = [
    (break_learning_rate, r'was made with another config than .*small_camvid.py'),
    (break_test, r"result.json' has no scores on the test split"),
    (break_metafile, "does not list 'small_camvid'"),
    (break_trained, "must list 'small_camvid' with 'Status: not trained yet'"),
    (break_data, "tests on 'data/mine', of which a model card would know nothing"),
    (lambda _, run: (run / 'result.json').unlink(), r"result.json' cannot be read"),
    (lambda _, run: (run / 'last_checkpoint').unlink(), 'has left no weights here'),
    (lambda project, _: (project / 'model-index.yml').unlink(), 'does not lie in a checkout'),
]


@pytest.mark.parametrize(('damage', 'sentence'), REFUSALS)
def test_what_is_refused_leaves_the_project_as_it_is(project, study_run, monkeypatch, damage, sentence):
    monkeypatch.setattr(publish, '_evaluate', lambda *_: {'mIoU': 1.0})
    damage(project, study_run)
    before = contents(project)
    with pytest.raises(UserError, match=sentence):
        publish.publish_run(study_run, str(project / 'configs' / 'mini' / 'small_camvid.py'))
    assert contents(project) == before


def test_a_failing_evaluation_is_named(project, study_run, monkeypatch):
    (project / 'tests' / 'data' / 'camvid' / 'images' / 'test' / '0001TP_009150.png').write_text('no image')
    before = contents(project)
    outcome = type('Outcome', (), dict(returncode=1, stderr='a line\nerror: it is broken', stdout=''))
    monkeypatch.setattr(publish.subprocess, 'run', lambda *_, **__: outcome)
    with pytest.raises(UserError, match=r'test\.py failed on the images in the project: it is broken'):
        publish.publish_run(study_run, str(project / 'configs' / 'mini' / 'small_camvid.py'))
    assert contents(project) == before
