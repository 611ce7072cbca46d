"""Trainings that are killed, find no room or lose their numbers, through tools/ as a user starts them."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch

CONFIGS = Path(__file__).parent / 'configs'
WAIT = 120


@pytest.fixture(scope='module')
def faulty(environment):
    """The variables under which the configs find their parts, and name the fault; one thread, for equal numbers."""
    path = os.pathsep.join([str(CONFIGS), environment['PYTHONPATH']])
    return lambda fault='': dict(PYTHONPATH=path, FAULT=fault, OMP_NUM_THREADS='1')


def read(path):
    return torch.load(path, weights_only=False)


def curve(work_dir):
    """Loss by iteration, over all the logs below a work dir; a later log replaces an earlier one."""
    lines = {}
    for log in sorted(work_dir.glob('2*/vis_data/scalars.json')):
        for line in map(json.loads, log.read_text().splitlines()):
            lines[line['step']] = line
    return lines


def assert_equal(one, other, where=''):
    """Bit for bit."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert list(one) == list(other), where
        for key in one:
            assert_equal(one[key], other[key], f'{where}.{key}')
    else:
        assert one == other, where


def assert_finite(checkpoint):
    assert all(torch.isfinite(t).all() for part in ('state_dict', 'ema_state_dict') for t in checkpoint[part].values())


def test_killed_while_writing_a_checkpoint(run, faulty, tmp_path):
    """Mask R-CNN in mixed precision, with EMA, data workers, augmentation, drop path, and no seed given."""
    cut = run('train.py', 'det_faults.py', '--amp', '--work-dir', 'cut', cwd=tmp_path, **faulty('cut=2'))
    assert cut.status == -signal.SIGKILL
    names = sorted(path.name for path in (tmp_path / 'cut').iterdir() if path.is_file())
    assert names == ['det_faults.py', 'iter_3.pth', 'iter_6.pth', 'iter_9.pth.partial', 'last_checkpoint']
    last = tmp_path / 'cut' / 'iter_6.pth'
    assert (tmp_path / 'cut' / 'last_checkpoint').read_text() == str(last)
    seed = read(last)['meta']['seed']

    # The file that is named is damaged as well: one byte of a tensor, which torch would not notice.
    whole = last.read_bytes()
    last.write_bytes(whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1 :])
    resumed = run('train.py', 'det_faults.py', '--amp', '--work-dir', 'cut', '--resume', cwd=tmp_path, **faulty())
    assert resumed.status == 0, resumed.errors
    warnings = [line for line in resumed.output.splitlines() if line.startswith('warning: ')]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"warning: checkpoint '{last}' is truncated or damaged (")
    assert warnings[0].endswith('iter_3.pth, the newest intact one')
    assert 'resumed at epoch 1/3, iteration 3/' in resumed.output
    assert not list((tmp_path / 'cut').glob('*.partial'))

    option = ('--cfg-options', f'randomness.seed={seed}')
    one = run('train.py', 'det_faults.py', '--amp', '--work-dir', 'whole', *option, cwd=tmp_path, **faulty())
    assert one.status == 0, one.errors
    end, uninterrupted = read(tmp_path / 'cut' / 'iter_12.pth'), read(tmp_path / 'whole' / 'iter_12.pth')
    for part in ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers'):
        assert_equal(end[part], uninterrupted[part], part)
    losses = {step: line['loss'] for step, line in curve(tmp_path / 'cut').items()}
    assert losses == {step: line['loss'] for step, line in curve(tmp_path / 'whole').items()}
    assert len(set(losses.values())) == 12


def descendants(pid):
    """The processes below one; torchrun's workers are no longer in its group."""
    parents = {}
    for stat in Path('/proc').glob('[0-9]*/stat'):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(')')[2].split()[1])
        except OSError:
            continue  # it has ended meanwhile
    children = [child for child, parent in parents.items() if parent == pid]
    return [other for child in children for other in [child, *descendants(child)]]


def kill_after(process, pointer, name):
    """kill -9 for the launcher and all its processes, once a checkpoint was written."""
    limit = time.monotonic() + WAIT
    while process.poll() is None and time.monotonic() < limit:
        if pointer.exists() and pointer.read_text().endswith(name):
            break
        time.sleep(0.02)
    for pid in [process.pid, *descendants(process.pid)]:
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=WAIT)
    assert process.returncode == -signal.SIGKILL


def test_two_processes_killed_and_resumed_with_a_step_skipped(start, run, faulty, tmp_path):
    """SemanticFPN; the images of the third iteration are NaN in one of two processes, and both leave the step out."""
    arguments = ('seg_faults.py', 2, '--nan', 'skip', '--work-dir')
    whole = run('dist_train.sh', *arguments, 'whole', cwd=tmp_path, **faulty('nan=3'))
    assert whole.status == 0, whole.errors
    assert whole.output.count('the loss is not finite at iteration 3: step skipped (1 so far)') == 1

    process = start('dist_train.sh', *arguments, 'cut', cwd=tmp_path, **faulty('nan=3 slow=0.3'))
    kill_after(process, tmp_path / 'cut' / 'last_checkpoint', 'iter_4.pth')
    assert not (tmp_path / 'cut' / 'iter_10.pth').exists()
    resumed = run('dist_train.sh', *arguments, 'cut', '--resume', cwd=tmp_path, **faulty())
    assert resumed.status == 0, resumed.errors

    lines, again = curve(tmp_path / 'whole'), curve(tmp_path / 'cut')
    assert list(lines) == list(range(1, 11)) and sorted(again) == list(lines)
    assert lines[3]['loss'] == lines[2]['loss'] != lines[4]['loss']  # what was skipped does not count
    for step, line in lines.items():
        assert again[step]['loss'] == pytest.approx(line['loss'], rel=1e-6)
        assert line.get('skipped_steps') == again[step].get('skipped_steps') == (1 if step >= 3 else None)
    end, uninterrupted = read(tmp_path / 'cut' / 'iter_10.pth'), read(tmp_path / 'whole' / 'iter_10.pth')
    assert_finite(end)
    for name, tensor in end['state_dict'].items():
        torch.testing.assert_close(tensor, uninterrupted['state_dict'][name], rtol=1e-5, atol=1e-6)


def test_nan_in_one_process_stops_both(run, faulty, tmp_path):
    outcome = run('dist_train.sh', 'wide.py', 2, '--work-dir', 'work', cwd=tmp_path, **faulty('nan=4'))
    assert outcome.status == 1
    last = tmp_path / 'work' / 'epoch_1.pth'
    assert outcome.sentence == (
        'the loss is not finite at iteration 4, and training stopped before it reached the weights; the last finite '
        f'checkpoint is {last}; lower the learning rate, or skip such steps with --nan skip'
    )
    assert all(torch.isfinite(tensor).all() for tensor in read(last)['state_dict'].values())
    assert [path.name for path in last.parent.glob('*.pth*')] == ['epoch_1.pth']


def test_no_room_for_a_checkpoint(run, faulty, tmp_path):
    """The limit on the size of a file stands for a full disk: the write itself fails half way."""
    outcome = run('train.py', 'wide.py', '--work-dir', 'work', cwd=tmp_path, **faulty('room=200000'))
    assert outcome.status == 1
    last = tmp_path / 'work' / 'epoch_1.pth'
    assert outcome.sentence == (
        f"files may not become that large here (ulimit -f): checkpoint '{tmp_path}/work/epoch_2.pth' could not be "
        f'written; the last finite checkpoint is {last}; free some space, then continue with --resume'
    )
    assert [path.name for path in last.parent.glob('*.p*th*')] == ['epoch_1.pth']
    assert (tmp_path / 'work' / 'last_checkpoint').read_text() == str(last)

    resumed = run('train.py', 'wide.py', '--work-dir', 'work', '--resume', cwd=tmp_path, **faulty())
    assert resumed.status == 0, resumed.errors
    assert 'resumed at epoch 1/3, iteration 4/12' in resumed.output
    assert read(tmp_path / 'work' / 'epoch_3.pth')['meta']['iter'] == 12
