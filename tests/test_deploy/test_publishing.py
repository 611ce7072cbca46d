"""What is published of a training: weights and classes, under names that hold the sha256 of the file."""

import hashlib
import json
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import EMAHook

from mmatconv.checkpoint.reader import read_checkpoint
from mmatconv.deploy.conversion import report_rows, save_published
from mmatconv.deploy.publishing import publishable
from mmatconv.errors import UserError


def saved(folder, content, name='checkpoint.pth'):
    torch.save(content, folder / name)
    return folder / name


@pytest.fixture
def training():
    """What MMEngine writes after an epoch."""
    storage = torch.arange(1000.0)
    return {
        'state_dict': {'backbone.a': storage[:3], 'head.b': torch.full((2, 2), 0.5, dtype=torch.float16)},
        'meta': {'epoch': 12, 'iter': 999, 'cfg': 'work_dir = /home/me', 'dataset_meta': {'classes': ('a', 'b')}},
        'optimizer': {'state': {0: {'exp_avg': torch.zeros(100)}}},
        'param_schedulers': [{'last_step': 3}],
        'message_hub': {'log_scalars': {}},
    }


def test_published_files_hold_the_weights_and_their_classes(tmp_path, training):
    source = saved(tmp_path, training)
    result = publishable(source)
    paths = save_published(result, tmp_path / 'out' / 'mask-rcnn')
    for path, suffix in zip(paths, ('.pth', '.safetensors')):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert path == tmp_path / 'out' / f'mask-rcnn-{digest[:8]}{suffix}'
        content = read_checkpoint(path)
        assert set(content) == {'state_dict', 'meta'}
        assert set(content['state_dict']) == {'backbone.a', 'head.b'}
        for name, value in training['state_dict'].items():
            assert torch.equal(content['state_dict'][name], value) and content['state_dict'][name].dtype == value.dtype
        assert path.stat().st_size < 2500, 'a view must not bring its storage'
    notes = {'epoch': 12, 'iter': 999, 'dataset_meta': {'classes': ('a', 'b')}}
    assert read_checkpoint(paths[0])['meta'] == notes
    notes['dataset_meta'] = {'classes': ['a', 'b']}
    assert json.loads(read_checkpoint(paths[1])['meta']['notes']) == notes
    assert b'/home/me' not in paths[0].read_bytes() + paths[1].read_bytes()
    assert set(result.dropped) == {'optimizer', 'param_schedulers', 'message_hub', 'meta'}
    assert result.dropped['meta'] == 'cfg'
    assert sorted((tmp_path / 'out').iterdir()) == sorted(paths)
    rows = report_rows(result, paths)
    assert ('names kept: 2', '', '') in rows and ('notes kept', '', 'dataset_meta, epoch, iter') in rows
    assert ('dropped', 'optimizer: 1 tensors, 400 bytes', '') in rows


def test_equal_weights_make_equal_files(tmp_path, training):
    training['state_dict'] = {f'module.{name}': value for name, value in training['state_dict'].items()}
    first = save_published(publishable(saved(tmp_path, training)), tmp_path / 'a')
    training['optimizer'] = None
    second = save_published(publishable(saved(tmp_path, training, 'later.pth')), tmp_path / 'b.pth')
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert [path.name[1:] for path in first] == [path.name[1:] for path in second]
    with pytest.raises(UserError, match='exists already'):
        save_published(publishable(tmp_path / 'later.pth'), tmp_path / 'b')
    assert not list(tmp_path.glob('*.partial'))


def test_averaged_weights_are_published(tmp_path):
    model = torch.nn.Linear(1, 1, bias=False)
    runner = SimpleNamespace(model=model, iter=0, epoch=0)
    hook = EMAHook(momentum=0.25)
    hook.before_run(runner)
    for value in (2.0, 6.0):
        torch.nn.init.constant_(model.weight, value)
        hook.after_train_iter(runner, 0)
        runner.iter += 1
    checkpoint = {'state_dict': model.state_dict(), 'meta': {}}
    hook.before_save_checkpoint(runner, checkpoint)
    result = publishable(saved(tmp_path, checkpoint))
    assert result.after['weight'].item() == 0.75 * 2 + 0.25 * 6
    assert result.dropped['ema_state_dict'].endswith('the averaged weights are those in state_dict')
    assert list(result.after) == ['weight']
