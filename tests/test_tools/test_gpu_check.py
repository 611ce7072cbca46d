"""tools/gpu_check.py on the CPU, as a user runs it, and what it does with stages that fail."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from mmatconv.analysis.gpu_check import run
from mmatconv.analysis.gpu_check.agreement import allowed_beside, check_module
from mmatconv.analysis.gpu_check.record import FAILED, NEEDS_GPU, PASSED, Disagreement, Record
from mmatconv.analysis.gpu_check.stages import DETECTOR_STAGES, STAGES
from mmatconv.analysis.gpu_check.target import Target
from mmatconv.errors import UserError

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'gpu_check.py'
# Those of the interpreter that take a second or two; the rest of the package's kernels is tested in test_ops.
ON_CPU = ('machine', 'kernels', 'operator-times', 'profile')


@pytest.fixture
def check(environment):
    def call(*args):
        command = [sys.executable, str(TOOL), *map(str, args)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)

    return call


@pytest.mark.slow
@pytest.mark.newer_torch
def test_stages_on_a_cpu(check, tmp_path):
    done = check('--cpu', '--out', tmp_path / 'out', '--stages', *ON_CPU)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / 'out' / 'results.json').read_text())
    assert list(results) == list(ON_CPU)
    assert all(result['finished'] for result in results.values())
    found = [entry['status'] for result in results.values() for entry in result['checks']]
    passed, needing = found.count(PASSED), found.count(NEEDS_GPU)
    assert passed > 8 and needing == len(found) - passed > 3
    # Nothing that only a GPU can tell is said to have passed.
    assert {entry['status'] for entry in results['profile']['checks']} == {NEEDS_GPU}
    last = done.stdout.splitlines()[-1]
    assert last == f'gpu_check: {passed} passed, 0 failed, {needing} need a GPU; results are in {tmp_path / "out"}'
    assert last in (tmp_path / 'out' / 'results.txt').read_text()
    assert {path.name for path in (tmp_path / 'out').iterdir()} == {'results.json', 'results.txt', 'log.txt'}


def test_wrong_options_are_named(check, tmp_path):
    (tmp_path / 'full').mkdir()
    (tmp_path / 'full' / 'mine.txt').touch()
    done = check('--cpu', '--out', tmp_path / 'full')
    assert done.returncode == 2
    assert done.stderr == (
        f"gpu_check.py: error: --out '{tmp_path / 'full'}' is not empty; delete what is there or name another folder\n"
    )
    new = tmp_path / 'new'
    with pytest.raises(UserError, match="there is no stage 'speed'; choose from machine, kernels"):
        run.run(new, ['speed'], detectors=False, cpu=True)
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match='torch sees no GPU; use --cpu'):
            run.run(new, None, detectors=False, cpu=False)
    assert not new.exists()


def test_all_stages_fit_into_ten_minutes():
    for stages in (STAGES, DETECTOR_STAGES):
        assert sum(stage.deadline for stage in stages.values()) <= 570


def test_a_stage_that_hangs_or_crashes_fails_and_ends_no_other(tmp_path, capsys):
    hung = run.run_stage('machine', STAGES['machine'], 'cpu', 0, tmp_path)
    assert [entry['detail'] for entry in hung['checks']] == ['did not end within 0 s']
    crashed = run.run_stage('no such stage', STAGES['machine'], 'cpu', 100, tmp_path)
    assert [entry['detail'] for entry in crashed['checks']] == ['ended with status 1']
    assert "KeyError: 'no such stage'" in capsys.readouterr().out
    results = {'one': hung, 'two': crashed}
    run.write(results, tmp_path)
    assert run.summary(results, tmp_path).startswith('gpu_check: 0 passed, 2 failed;')


def test_findings_are_written_one_by_one(tmp_path):
    record = Record(tmp_path / 'stage.json')
    record.check('equal', lambda: 'by 3')

    def disagree():
        raise Disagreement('not equal')

    record.check('unequal', disagree)
    record.check('broken', lambda: 1 / 0)
    found = json.loads((tmp_path / 'stage.json').read_text())
    assert [entry['status'] for entry in found['checks']] == [PASSED, FAILED, FAILED]
    assert found['checks'][1]['detail'] == 'not equal' and not found['finished']
    assert found['checks'][2]['detail'].startswith('ZeroDivisionError: division by zero (test_gpu_check.py:')

    def dead():
        raise RuntimeError('an illegal memory access was encountered')

    # What follows in this process could only fail as well.
    with pytest.raises(RuntimeError, match='illegal memory access'):
        Record(tmp_path / 'other.json', dead).check('equal', lambda: None)


class Off(nn.Module):
    """Right in float64 and on torch's own operations, off by a share elsewhere."""

    def __init__(self, share):
        super().__init__()
        self.share = share
        self.linear = nn.Linear(8, 8)

    def forward(self, x):
        from mmatconv.ops.paths import choose

        right = x.dtype == torch.float64 or choose(x, None) == 'reference'
        return self.linear(x) * (1 if right else 1 + self.share)


@pytest.mark.parametrize(('dtype', 'share'), [(torch.float32, 3e-4), (torch.bfloat16, 0.05)])
def test_a_module_that_is_off_is_found(dtype, share, monkeypatch):
    monkeypatch.setattr('mmatconv.analysis.gpu_check.agreement.PLAIN', 'reference')
    target = Target('cpu')
    x = target.random(16, 8, dtype=dtype)
    check_module(Off(0.0), x, target, dtype)
    with pytest.raises(Disagreement, match='is off by'):
        check_module(Off(share), x, target, dtype)


def test_nothing_is_compared_with_noise():
    with pytest.raises(Disagreement, match='in gradients; nothing can be compared'):
        allowed_beside({'output 0': 0.01, 'gradient of input': 0.5}, 2**-8)


@pytest.mark.newer_torch
@pytest.mark.parametrize('mode', ['forward', 'backward'])
def test_the_sweep_changes_tiles_and_restores_them(mode):
    from mmatconv.analysis.gpu_check.tile_sweep import SIZE, TABLES, other_tiles
    from mmatconv.ops.dynamic_conv import triton_launch

    lanes, programs = getattr(triton_launch, TABLES[mode]), triton_launch.PROGRAMS
    before = dict(lanes), dict(programs)
    with other_tiles(mode, lane=(1, 2, 3)):
        assert lanes[SIZE] == (1, 2, 3) and programs == before[1]
    with other_tiles(mode, programs=2.0):
        assert lanes == before[0] and programs == {key: 2 * count for key, count in before[1].items()}
    assert (lanes, programs) == before
