"""A training that was interrupted ends as one that was not: every loop, sampler and number of workers, on a tiny model.

tests/test_tools/test_faults.py does the same with detectors and segmentors, and kills them.
"""

import itertools
import random

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import nn

from mmatconv.engine.hooks.nonfinite import NonFiniteLossHook
from mmatconv.engine.runner.runner import Runner

EPOCHS, LENGTH = 3, 11
RUNS = itertools.count()


class Noisy(torch.utils.data.Dataset):
    """Eleven samples, augmented with numbers of all three generators; notes what was loaded."""

    def __init__(self, log=None):
        self.log = log

    def __len__(self):
        return LENGTH

    def get_data_info(self, index):
        return {'width': 1 + index % 3, 'height': 2}

    def __getitem__(self, index):
        if self.log is not None:
            self.log.append(index)
        noise = random.random() + np.random.rand() + torch.rand(1).item()
        return {'inputs': torch.tensor([float(index), noise])}


class Dropping(BaseModel):
    """Dropout, running statistics, and a loss to follow."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))

    def forward(self, inputs, mode='tensor'):
        out = self.layers(torch.stack(list(inputs)))
        return {'loss': out.square().mean() * (1 + random.random()) * (1 + np.random.rand())}


class Losses(Hook):
    """Notes the loss of every iteration, and breaks off at one."""

    def __init__(self, end=None):
        self.end = end
        self.seen = {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.end:
            raise KeyboardInterrupt

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.seen[runner.iter] = (batch_idx, outputs['loss'].item())


def train(folder, by_epoch=True, sampler='DefaultSampler', batch_sampler=None, workers=0, seed=3, end=None, **options):
    """Trains, or goes on with training; returns the state at the end and the losses."""
    data = Noisy(options.pop('log', None))
    loader = dict(
        dataset=data, sampler=dict(type=sampler, shuffle=True), batch_size=3, num_workers=workers,
        persistent_workers=workers > 0, **({'batch_sampler': batch_sampler} if batch_sampler else {})
    )  # fmt: skip
    iterations = EPOCHS * -(-LENGTH // 3)
    losses = Losses(end)
    runner = Runner(
        dict(type=Dropping),
        str(folder),
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=EPOCHS) if by_epoch else dict(by_epoch=False, max_iters=iterations),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.01), clip_grad=dict(max_norm=1)),
        param_scheduler=dict(type='CosineAnnealingLR', by_epoch=False, T_max=iterations),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=3)),
        custom_hooks=[losses, NonFiniteLossHook(), dict(type='EMAHook', momentum=0.1)],
        experiment_name=f'{folder.name}-{next(RUNS)}',
        default_scope='mmengine',
        randomness=dict(seed=seed),
        **options,
    )
    try:
        runner.train()
    except KeyboardInterrupt:
        return None, losses.seen
    finally:
        # Workers that outlive their loop are inherited by those of the next, and both are slow to end.
        for iterator in (runner.train_dataloader._iterator, getattr(runner.train_loop, 'dataloader_iterator', None)):
            iterator = getattr(iterator, '_iterator', iterator)
            if hasattr(iterator, '_shutdown_workers'):
                iterator._shutdown_workers()
    end = torch.load(folder / f'iter_{iterations}.pth', weights_only=False)
    return {key: end[key] for key in ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers')}, losses.seen


def assert_equal(one, other):
    """Bit for bit."""
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other):
            assert_equal(a, b)
    else:
        assert one == other


@pytest.mark.parametrize(
    ('by_epoch', 'sampler', 'batch_sampler', 'workers', 'end'),
    [
        (True, 'DefaultSampler', None, 0, 4),  # the last checkpoint is within the first epoch, of four batches
        (True, 'DefaultSampler', dict(type='mmdet.AspectRatioBatchSampler'), 2, 8),
        (True, 'DefaultSampler', None, 2, 11),
        (False, 'InfiniteSampler', None, 2, 8),
        (False, 'DefaultSampler', None, 0, 11),  # a finite sampler is begun anew
    ],
)
def test_resumed_equals_uninterrupted(tmp_path, by_epoch, sampler, batch_sampler, workers, end):
    options = dict(by_epoch=by_epoch, sampler=sampler, batch_sampler=batch_sampler)
    if batch_sampler:
        import mmdet.datasets  # noqa: F401

    whole, losses = train(tmp_path / 'whole', workers=2 - workers, **options)
    _, before = train(tmp_path / 'cut', workers=workers, end=end, **options)
    last = 3 * (end // 3)
    assert (tmp_path / 'cut' / 'last_checkpoint').read_text() == str(tmp_path / 'cut' / f'iter_{last}.pth')
    resumed, after = train(tmp_path / 'cut', workers=workers, resume=True, **options)
    assert_equal(resumed, whole)
    assert {**before, **after} == losses
    assert min(after) == last
    assert len({loss for _, loss in losses.values()}) == len(losses)


def test_what_was_seen_is_not_loaded(tmp_path):
    train(tmp_path, end=7)
    seen, rest = [], []
    train(tmp_path / 'other', log=seen)
    train(tmp_path, resume=True, log=rest)
    assert rest == seen[LENGTH + 6 :]  # six iterations: an epoch of eleven samples, and two batches of three


def test_augmentation_differs_from_epoch_to_epoch_and_with_the_seed(tmp_path):
    _, losses = train(tmp_path / 'three', seed=3)
    assert losses == train(tmp_path / 'again', seed=3)[1]
    assert not set(losses.values()) & set(train(tmp_path / 'four', seed=4)[1].values())
