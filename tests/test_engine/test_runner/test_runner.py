"""What the runner adds to MMEngine's, on a model of two weights: checkpoints survive, samplers never wait for ever."""

import os

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from torch import nn

from mmatconv.engine.hooks.check_checkpoint import CheckpointGuardHook, check_state
from mmatconv.engine.runner.runner import Runner
from mmatconv.errors import UserError


class Line(BaseModel):
    """y = a x + b."""

    def __init__(self, width=1):
        super().__init__()
        self.line = nn.Linear(1, width)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, inputs, mode='tensor'):
        out = self.norm(self.line(torch.stack(list(inputs))))
        return {'loss': out.square().mean()} if mode == 'loss' else [out]


class Dots(torch.utils.data.Dataset):
    def __init__(self, length=4):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return {'inputs': torch.tensor([float(index)])}


class Scores(BaseMetric):
    """Gives the scores it was told, one an epoch."""

    default_prefix = 'told'

    def __init__(self, scores):
        super().__init__()
        self.scores = iter(scores)

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return {'acc': next(self.scores)}


def make_runner(folder, scores=(), epochs=3, hook=None, **options):
    loader = dict(
        batch_size=2, num_workers=0, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=False)
    )
    validation = dict(val_dataloader=dict(loader, dataset=Dots()), val_cfg=dict(), val_evaluator=[Scores(scores)])
    return Runner(
        Line(),
        str(folder),
        train_dataloader=dict(loader, dataset=Dots()),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', **(hook or {}))),
        experiment_name=folder.name,
        default_scope='mmengine',
        **(validation if scores else {}),
        **options,
    )


def files(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_file() and path.suffix != '.py')


def test_old_checkpoint_goes_after_the_new_one_is_there(tmp_path):
    make_runner(tmp_path, hook=dict(interval=1, max_keep_ckpts=2)).train()
    assert files(tmp_path) == ['epoch_2.pth', 'epoch_3.pth', 'last_checkpoint']


@pytest.mark.parametrize(
    ('error', 'raised'),
    [(OSError(28, 'No space left on device'), UserError), (KeyboardInterrupt(), KeyboardInterrupt)],
)
def test_a_failed_save_leaves_the_checkpoint_before_it(tmp_path, monkeypatch, error, raised):
    save = torch.save
    calls = []

    def save_or_fail(checkpoint, file):
        calls.append(file)
        if len(calls) == 2:
            raise error
        save(checkpoint, file)

    monkeypatch.setattr(torch, 'save', save_or_fail)
    runner = make_runner(tmp_path, hook=dict(interval=1, max_keep_ckpts=1))
    with pytest.raises(raised) as told:
        runner.train()
    assert raised is KeyboardInterrupt or str(told.value) == (
        f"the disk is full: checkpoint '{tmp_path}/epoch_2.pth' could not be written; the last finite checkpoint is "
        f'{tmp_path}/epoch_1.pth; free some space, then continue with --resume'
    )
    assert files(tmp_path) == ['epoch_1.pth', 'last_checkpoint']
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_1.pth')
    assert torch.load(tmp_path / 'epoch_1.pth', weights_only=False)['meta']['epoch'] == 1


def test_a_cut_off_write_has_another_name(tmp_path, monkeypatch):
    """What is on the disk while a checkpoint is written: the last one whole, the new one under another name."""
    seen = []
    replace = os.replace

    def watch(source, target):
        seen.append(files(tmp_path))
        replace(source, target)

    monkeypatch.setattr(os, 'replace', watch)
    make_runner(tmp_path, epochs=2, hook=dict(interval=1, max_keep_ckpts=1)).train()
    assert seen == [
        ['epoch_1.pth.partial'],
        ['epoch_1.pth', 'last_checkpoint.partial'],
        ['epoch_1.pth', 'epoch_2.pth.partial', 'last_checkpoint'],
        ['epoch_1.pth', 'epoch_2.pth', 'last_checkpoint', 'last_checkpoint.partial'],
    ]


def test_best_checkpoint(tmp_path):
    runner = make_runner(
        tmp_path, scores=[0.5, 0.9, 0.7], hook=dict(interval=1, max_keep_ckpts=1, save_best='told/acc')
    )
    runner.train()
    assert files(tmp_path) == ['best_told_acc_epoch_2.pth', 'epoch_3.pth', 'last_checkpoint']
    assert runner.message_hub.get_info('best_ckpt') == str(tmp_path / 'best_told_acc_epoch_2.pth')


def test_empty_data_set_is_an_error(tmp_path):
    loader = dict(dataset=Dots(0), batch_size=1, num_workers=0, sampler=dict(type='InfiniteSampler'))
    with pytest.raises(UserError, match=r'^Dots holds no usable image; check its annotation file'):
        Runner.build_dataloader(loader)


def test_resume_takes_this_model_only(tmp_path):
    make_runner(tmp_path / 'first', epochs=1).train()
    file = tmp_path / 'first' / 'epoch_1.pth'
    state = torch.load(file, weights_only=False)
    state['state_dict']['line.weight'] = torch.zeros(3, 1)
    torch.save(state, tmp_path / 'other.pth')
    runner = make_runner(tmp_path / 'second', load_from=str(tmp_path / 'other.pth'), resume=True)
    runner.register_hook(CheckpointGuardHook('other.pth', exact=True))
    with pytest.raises(UserError, match=r"1 have another shape \('line.weight' is \(3, 1\) in the file and \(1, 1\)"):
        runner.train()


def test_states_that_fit():
    model = Line()
    state = model.state_dict()
    assert check_state(model, state, 'a.pth', exact=True).fits
    del state['norm.num_batches_tracked']  # old checkpoints have none
    check_state(model, state, 'a.pth', exact=True)
    del state['line.bias']
    check_state(model, state, 'a.pth', exact=False)
    with pytest.raises(
        UserError, match=r"1 tensors of this config are missing in it, .*'line.bias' \(1,\) is not in the"
    ):
        check_state(model, state, 'a.pth', exact=True)
    with pytest.raises(UserError, match='none of its 1 tensors fits the 7 of this config'):
        check_state(model, {'head.weight': torch.zeros(1)}, 'a.pth', exact=False)
