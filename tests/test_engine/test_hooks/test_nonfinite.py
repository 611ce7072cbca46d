"""NaN never reaches the weights."""

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from mmatconv.engine.hooks.nonfinite import NonFiniteLossHook
from mmatconv.engine.runner.runner import Runner
from mmatconv.errors import UserError


class Model(BaseModel):
    """Its loss is finite where x is, its gradient where x is not 0: the root has a slope without end there."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(1)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, inputs, mode='tensor'):
        x = torch.stack(list(inputs))
        spread = 0 * self.norm(x).sum()
        return {'loss': (self.scale * x).abs().sqrt().mean() + spread}


class Numbers(torch.utils.data.Dataset):
    def __init__(self, numbers):
        self.numbers = numbers

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, index):
        return {'inputs': torch.tensor([float(self.numbers[index])])}


class Weights(Hook):
    """Notes the weight before each iteration."""

    def __init__(self):
        self.before = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.before.append(runner.model.scale.item())


def train(folder, numbers, hook, **wrapper):
    """One epoch over the numbers, two a step; returns the runner and the weights before each step."""
    weights = Weights()
    runner = Runner(
        Model(),
        str(folder),
        train_dataloader=dict(
            dataset=Numbers(numbers), sampler=dict(type='DefaultSampler', shuffle=False), batch_size=2, num_workers=0
        ),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1), **wrapper),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1)),
        custom_hooks=[hook, weights],
        experiment_name=folder.name,
        default_scope='mmengine',
    )
    try:
        runner.train()
    finally:
        weights.before.append(runner.model.scale.item())
    return runner, weights.before


@pytest.mark.parametrize(
    ('broken', 'what'), [('nan', 'the loss is not finite'), ('inf', 'the loss is not finite'), (0, 'a gradient is not')]
)
def test_stop_before_the_step(tmp_path, broken, what):
    with pytest.raises(UserError) as told:
        train(tmp_path, [1, 2, broken, 2, 1, 2], NonFiniteLossHook())
    assert str(told.value).startswith(what)
    assert 'at iteration 2,' in str(told.value)
    assert f'the last finite checkpoint is {tmp_path / "iter_1.pth"};' in str(told.value)
    assert not (tmp_path / 'iter_2.pth').exists()


def test_skip_leaves_weights_and_statistics(tmp_path):
    runner, weights = train(tmp_path / 'skip', [1, 2, 'nan', 2, 0, 2, 3, 4], NonFiniteLossHook('skip'))
    assert weights[1] == weights[2] == weights[3] != weights[4]
    alone, _ = train(tmp_path / 'alone', [1, 2, 3, 4], NonFiniteLossHook())
    for name, tensor in alone.model.state_dict().items():
        assert torch.equal(runner.model.state_dict()[name], tensor), name
    scalars = runner.message_hub.log_scalars
    assert scalars['train/skipped_steps'].data[0].tolist() == [1, 2, 2]
    assert len(scalars['train/loss'].data[0]) == 2


def test_skips_in_a_row_end(tmp_path):
    hook = NonFiniteLossHook('skip', max_skips=2)
    train(tmp_path / 'two', ['nan', 1] * 2 + [1, 2] + ['nan', 1] * 2, hook)
    assert hook.skipped == 4
    with pytest.raises(UserError, match='at iteration 3, after 2 skipped steps in a row'):
        train(tmp_path / 'three', ['nan', 1] * 3, NonFiniteLossHook('skip', max_skips=2))


def test_one_loss_of_several_that_are_accumulated(tmp_path):
    _, weights = train(
        tmp_path, [1, 2, 'nan', 2, 1, 2, 3, 4], NonFiniteLossHook('skip'), accumulative_counts=2
    )  # fmt: skip
    assert weights[0] == weights[1] == weights[2] == weights[3] != weights[4]


@pytest.fixture
def scaled():
    """The name of a wrapper that does on the CPU what AmpOptimWrapper does on a GPU: its scale begins at 4."""

    @OPTIM_WRAPPERS.register_module(force=True)
    class Scaled(OptimWrapper):
        def __init__(self, *args, enabled=True, **kwargs):
            super().__init__(*args, **kwargs)
            self.loss_scaler = torch.amp.GradScaler('cpu', init_scale=4.0, enabled=enabled)

        def backward(self, loss, **kwargs):
            self.loss_scaler.scale(loss).backward()
            self._inner_count += 1

        def step(self, **kwargs):
            self.loss_scaler.step(self.optimizer)
            self.loss_scaler.update()

    return 'Scaled'


@pytest.mark.newer_torch
@pytest.mark.parametrize('broken', ['nan', 'inf', 0])
def test_overflow_is_left_to_the_loss_scale(tmp_path, scaled, broken):
    hook = NonFiniteLossHook()
    runner, weights = train(tmp_path / f'overflow-{broken}', [1, 2, broken, 2, 1, 2], hook, type=scaled)
    assert weights[0] != weights[1] == weights[2] != weights[3]
    assert runner.optim_wrapper.loss_scaler.get_scale() == 2
    assert (hook.overflowed, hook.skipped) == (1, 0)
    assert all(buffer.isfinite().all() for buffer in runner.model.norm.buffers())


@pytest.mark.newer_torch
def test_overflow_that_does_not_end_with_the_smallest_scale(tmp_path, scaled):
    hook = NonFiniteLossHook(max_skips=2)
    with pytest.raises(UserError, match='at iteration 4, as in the 2 steps before it, and the loss scale cannot fall'):
        train(tmp_path / 'ever', ['nan', 2] * 5, hook, type=scaled)
    with pytest.raises(UserError, match='the loss is not finite at iteration 1, and training stopped'):
        train(tmp_path / 'off', ['nan', 2], NonFiniteLossHook(), type=scaled, enabled=False)


def test_weights_that_are_not_finite_are_not_written(tmp_path):
    class Spoil(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if runner.iter == 1:
                runner.model.scale.data.fill_(float('inf'))

    with pytest.raises(UserError) as told:
        train(tmp_path, [1, 2, 3, 4, 5, 6], Spoil())
    assert str(told.value).startswith("weight 'scale' is not finite after iteration 2, and was not written; the last")
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'iter_1.pth')


def test_options():
    with pytest.raises(UserError, match="action of NonFiniteLossHook must be one of stop, skip, but is 'go'"):
        NonFiniteLossHook('go')
    with pytest.raises(UserError, match='max_skips of NonFiniteLossHook must be a whole number from 0, but is -1'):
        NonFiniteLossHook(max_skips=-1)
