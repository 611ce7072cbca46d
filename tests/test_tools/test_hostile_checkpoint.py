"""A checkpoint that would run code, given to the tools as a user would; with --trust-checkpoint it does, loudly."""

import os

import pytest
import torch

from mmatconv import AttNet
from mmatconv.checkpoint.names import to_classifier

from ..hostile import Call

# What configs/cls.py builds.
ARCH = dict(depths=[1, 1, 1, 1], dims=[8, 16, 24, 32], exp_rates=2)


@pytest.fixture
def hostile(tmp_path):
    """A whole classifier with an attack beside its weights; the folder that the attack makes."""
    trace = tmp_path / 'ran'
    state = AttNet(ARCH, gap_before_final_norm=True, init='live').state_dict()
    state |= {'head.weight': torch.zeros(2, 32), 'head.bias': torch.zeros(2)}
    state = {to_classifier(name): value for name, value in state.items()}
    content = {'state_dict': state, 'meta': {}, 'optimizer': {'state': {0: Call(os.mkdir, str(trace))}}}
    torch.save(content, tmp_path / 'hostile.pth')
    return tmp_path / 'hostile.pth', trace


def test_evaluating_and_resuming_refuse_it(run, hostile, tmp_path):
    path, trace = hostile
    # The variables by which torch itself could be told to unpickle without restriction.
    variables = dict(TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD='1')
    evaluated = run('test.py', 'cls.py', path, '--work-dir', 'work', cwd=tmp_path, **variables)
    resumed = run('train.py', 'cls.py', '--resume', path, '--work-dir', 'work', cwd=tmp_path, **variables)
    for outcome in (evaluated, resumed):
        assert outcome.status == 1
        assert outcome.sentence.startswith(f"checkpoint '{path}' holds more than tensors and plain data, and restoring")
        assert '(posix.mkdir)' in outcome.sentence and '--trust-checkpoint' in outcome.sentence
    assert not trace.exists()
    assert not list((tmp_path / 'work').glob('*.pth'))


def test_trust_is_loud(run, hostile, tmp_path):
    path, trace = hostile
    outcome = run('test.py', 'cls.py', path, '--trust-checkpoint', '--work-dir', 'work', cwd=tmp_path)
    assert outcome.status == 0, outcome.errors
    assert trace.is_dir()
    warning = f"WARNING: --trust-checkpoint: '{path}' is unpickled without restriction and may run anything"
    assert outcome.errors.count(warning) == 1
    assert 'top-1' in outcome.output
