"""Who a process is, which processes it meets, and what a launcher starts."""

import datetime
import os
import subprocess
import time
from pathlib import Path

import pytest
import torch

from mmatconv.engine.cli.error_messages import error_message
from mmatconv.engine.launch import dist_info, messages, process_group, torchrun
from mmatconv.errors import UserError

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    """A shell in which nothing has been launched, restored afterwards whatever the code sets."""
    for name in list(os.environ):
        if name.startswith(('SLURM_', 'OMPI_', 'MASTER_', 'MMATCONV_')) or name in (
            *('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'LOCAL_WORLD_SIZE'),
            *('NNODES', 'NODE_RANK', 'PORT', 'OMP_NUM_THREADS', 'MKL_NUM_THREADS'),
        ):
            monkeypatch.delenv(name)
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def gpus(monkeypatch, count):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: count > 0)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: count)


def script(folder, name, body):
    path = folder / name
    path.write_text(f'#!/usr/bin/env bash\n{body}\n')
    path.chmod(0o755)
    return path


# ---- the place of a process --------------------------------------------------------------------------------------


def test_alone():
    assert dist_info.read_dist_info('none') == dist_info.DistInfo(0, 0, 1, 1)


def test_torchrun_place(monkeypatch):
    gpus(monkeypatch, 0)
    os.environ.update(RANK='5', LOCAL_RANK='1', WORLD_SIZE='8', MASTER_ADDR='a', MASTER_PORT='1', LOCAL_WORLD_SIZE='4')
    assert dist_info.read_dist_info('pytorch') == dist_info.DistInfo(5, 1, 8, 4)
    del os.environ['WORLD_SIZE']
    with pytest.raises(
        UserError, match='--launcher pytorch needs the variable WORLD_SIZE, a number, but it is not set; '
    ):
        dist_info.read_dist_info('pytorch')
    os.environ['WORLD_SIZE'] = 'many'
    with pytest.raises(UserError, match=r"it is 'many'; start with tools/dist_train\.sh"):
        dist_info.read_dist_info('pytorch')


@pytest.mark.parametrize(
    ('tasks', 'node', 'local_world'), [('4(x2)', 1, 4), ('2(x3),1', 3, 1), ('8', 0, 8), ('', 0, 8)]
)
def test_slurm_place(monkeypatch, tmp_path, tasks, node, local_world):
    gpus(monkeypatch, 0)
    script(tmp_path, 'scontrol', '[ "$*" = "show hostnames gpu[07-08]" ] && printf "gpu07\\ngpu08\\n"')
    monkeypatch.setenv('PATH', str(tmp_path), prepend=os.pathsep)
    os.environ.update(
        SLURM_PROCID='6', SLURM_NTASKS='8', SLURM_LOCALID='2', SLURM_NODEID=str(node), SLURM_NODELIST='gpu[07-08]',
        SLURM_TASKS_PER_NODE=tasks, SLURM_JOB_ID='1234', SLURM_STEP_ID='1',
    )  # fmt: skip
    assert dist_info.read_dist_info('slurm') == dist_info.DistInfo(6, 2, 8, local_world)
    assert os.environ['MASTER_ADDR'] == 'gpu07'
    assert (os.environ['RANK'], os.environ['LOCAL_RANK'], os.environ['WORLD_SIZE']) == ('6', '2', '8')
    port = int(os.environ.pop('MASTER_PORT'))
    assert 1024 < port < 32768
    os.environ['SLURM_JOB_ID'] = '1235'
    dist_info.read_dist_info('slurm')
    assert int(os.environ['MASTER_PORT']) != port


def test_slurm_without_scontrol(monkeypatch, tmp_path):
    gpus(monkeypatch, 0)
    monkeypatch.setenv('PATH', str(tmp_path))
    os.environ.update(SLURM_PROCID='0', SLURM_NTASKS='2', SLURM_NODELIST='a1,a2', MASTER_PORT='1')
    dist_info.read_dist_info('slurm')
    assert os.environ.pop('MASTER_ADDR') == 'a1'
    os.environ['SLURM_NODELIST'] = 'a[1-2]'
    with pytest.raises(
        UserError, match=r"SLURM_NODELIST='a\[1-2\]' without a working 'scontrol show hostnames'; set MAS"
    ):
        dist_info.read_dist_info('slurm')


def test_mpi_place(monkeypatch):
    gpus(monkeypatch, 0)
    os.environ.update(
        OMPI_COMM_WORLD_RANK='3',
        OMPI_COMM_WORLD_LOCAL_RANK='1',
        OMPI_COMM_WORLD_SIZE='4',
        OMPI_COMM_WORLD_LOCAL_SIZE='2',
    )
    with pytest.raises(UserError, match='MASTER_ADDR, but it is not set'):
        dist_info.read_dist_info('mpi')
    os.environ['MASTER_ADDR'] = 'first'
    assert dist_info.read_dist_info('mpi') == dist_info.DistInfo(3, 1, 4, 2)


def test_slurm_shows_each_task_its_own_gpus(monkeypatch):
    monkeypatch.setattr(torch.distributed, 'init_process_group', lambda *args, **kwargs: None)
    devices = []
    monkeypatch.setattr(torch.cuda, 'set_device', devices.append)
    os.environ.update(
        SLURM_PROCID='3', SLURM_NTASKS='4', SLURM_LOCALID='3', SLURM_TASKS_PER_NODE='4', SLURM_NODELIST='a',
        MASTER_PORT='1',
    )  # fmt: skip
    for visible, per_task in ((1, ''), (2, '2'), (4, '')):
        gpus(monkeypatch, visible)
        os.environ['SLURM_GPUS_PER_TASK'] = per_task
        process_group.init_process_group('slurm', dist_info.read_dist_info('slurm'), {})
    assert devices == [0, 1, 3]
    gpus(monkeypatch, 2)
    os.environ['SLURM_GPUS_PER_TASK'] = ''
    with pytest.raises(UserError, match='4 processes asked for but 2 GPUs are visible'):
        dist_info.read_dist_info('slurm')


def test_more_processes_than_gpus(monkeypatch, capfd):
    gpus(monkeypatch, 2)
    sentence = '^8 processes asked for but 2 GPUs are visible on [^;]+; start at most 2 there'
    with pytest.raises(UserError, match=sentence):
        dist_info.check_devices(8)
    gpus(monkeypatch, 1)
    with pytest.raises(UserError, match='but 1 GPU is visible on'):
        dist_info.check_devices(2)
    dist_info.check_devices(1)
    assert torchrun.main(['2', 'tools/train.py']) == 1
    assert capfd.readouterr().err.startswith('error: 2 processes asked for but 1 GPU is visible on')
    gpus(monkeypatch, 0)
    dist_info.check_devices(8)


# ---- the process group -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(('count', 'backend'), [(0, 'gloo'), (2, 'nccl')])
def test_group_is_made_for_the_device(monkeypatch, count, backend):
    gpus(monkeypatch, count)
    monkeypatch.setenv('MASTER_ADDR', 'localhost')
    monkeypatch.delenv('GLOO_SOCKET_IFNAME', raising=False)
    calls, devices = [], []
    monkeypatch.setattr(torch.distributed, 'init_process_group', lambda *args, **kwargs: calls.append((args, kwargs)))
    monkeypatch.setattr(torch.cuda, 'set_device', devices.append)
    monkeypatch.setattr(torch, 'set_num_threads', lambda count: None)
    process_group.init_process_group(
        'pytorch', dist_info.DistInfo(3, 1, 4, 2), dict(backend='nccl', timeout=90, port=7)
    )
    assert calls == [((backend,), dict(rank=3, world_size=4, timeout=datetime.timedelta(seconds=90)))]
    assert devices == ([1] if count else [])


@pytest.mark.parametrize('timeout', ['soon', -1, True])
def test_timeout_must_be_seconds(timeout):
    with pytest.raises(UserError, match=r'env_cfg.dist_cfg.timeout must be a positive number of seconds, got'):
        process_group.init_process_group('pytorch', dist_info.DistInfo(), dict(timeout=timeout))


def outlive_the_parent(ready, report):
    """Joins as a rank does, says so, and reports if it is still there once its parent has ended."""
    try:
        parent = os.getppid()
        process_group.init_process_group('pytorch', dist_info.DistInfo(), {})
        os.write(ready, b'1')
        while os.getppid() == parent:
            time.sleep(0.01)
        time.sleep(0.1)
        os.write(report, b'alive')
    finally:
        os._exit(0)


@pytest.mark.parametrize('by_torchrun', [False, True])
def test_only_torchrun_takes_its_processes_along(monkeypatch, by_torchrun):
    """A process whose parent ends: a rank started by hand under nohup goes on, one of torchrun ends."""
    monkeypatch.setattr(torch.distributed, 'init_process_group', lambda *args, **kwargs: None)
    monkeypatch.setattr(torch, 'set_num_threads', lambda count: None)
    gpus(monkeypatch, 0)
    if by_torchrun:
        monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'none')
    news, report = os.pipe()
    parent = os.fork()
    if parent == 0:
        ready, tell = os.pipe()
        if os.fork() == 0:
            outlive_the_parent(tell, report)
        os.close(tell)
        os.read(ready, 1)
        os._exit(0)
    os.close(report)
    os.waitpid(parent, 0)
    assert os.read(news, 5) == (b'' if by_torchrun else b'alive')
    os.close(news)


def test_cores_are_shared_out(monkeypatch):
    monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: set(range(12)))
    assert process_group.share_threads(4) == 3
    assert (os.environ['OMP_NUM_THREADS'], os.environ['MKL_NUM_THREADS']) == ('3', '3')
    assert process_group.share_threads(2) == 3  # what is set stays
    del os.environ['OMP_NUM_THREADS']
    assert process_group.share_threads(100) == 1


# ---- torchrun's arguments ----------------------------------------------------------------------------------------


def test_one_machine_picks_a_free_port():
    assert torchrun.arguments('2', ['train.py', 'c.py']) == [
        '--nproc-per-node=2', '--nnodes=1', '--monitor-interval=0.2', '--rdzv-backend=c10d',
        '--rdzv-endpoint=localhost:0', '--local-addr=localhost', 'train.py', 'c.py',
    ]  # fmt: skip


def test_variables_of_many_machines(monkeypatch):
    os.environ.update(NNODES='3', NODE_RANK='2')
    with pytest.raises(UserError, match='NNODES=3 needs MASTER_ADDR, the name of the machine with NODE_RANK=0'):
        torchrun.arguments('8', ['train.py'])
    os.environ.update(MASTER_ADDR='first', PORT='4000')
    assert torchrun.arguments('8', ['train.py']) == [
        '--nproc-per-node=8', '--nnodes=3', '--monitor-interval=0.2', '--node-rank=2', '--master-addr=first',
        '--master-port=4000', 'train.py',
    ]  # fmt: skip
    del os.environ['PORT']
    assert '--master-port=29500' in torchrun.arguments('8', ['train.py'])
    os.environ['NODE_RANK'] = '3'
    with pytest.raises(UserError, match='NODE_RANK=3 must be below NNODES=3'):
        torchrun.arguments('8', ['train.py'])


@pytest.mark.parametrize('count', ['0', '-1', 'two', ''])
def test_number_of_processes(count, capfd):
    assert torchrun.main([count, 'train.py']) == 1
    expected = f'error: N, the number of processes, must be a whole number of at least 1, got {count!r}\n'
    assert capfd.readouterr().err == expected


# ---- what reaches the user ---------------------------------------------------------------------------------------


def test_sentences():
    assert error_message(UserError('one sentence')) == 'one sentence'
    # MMEngine 0.10.7 puts the class in front, a DataLoader worker the traceback.
    assert (
        error_message(UserError('class `AttNet` in mmatconv/backbones/attnet.py: class `B` in b.py: no arch'))
        == 'no arch'
    )
    worker = 'Caught FileNotFoundError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n'
    assert error_message(
        FileNotFoundError(f"{worker}  File\nFileNotFoundError: [Errno 2] No such file: 'a.jpg'\n")
    ) == ("[Errno 2] No such file: 'a.jpg'")
    assert (
        error_message(FileNotFoundError(2, 'No such file or directory', 'a.jpg'))
        == "No such file or directory: 'a.jpg'"
    )
    assert (
        error_message(OSError(28, 'No space left on device'))
        == 'the disk is full: a file of this run could not be written'
    )
    chained = RuntimeError('outer')
    chained.__cause__ = UserError('inner')
    assert error_message(chained) == 'inner'
    missing = KeyError('ATNet is not in the mmdet::model registry. Please check whether')
    assert error_message(missing) == 'ATNet is not in the mmdet::model registry; check the type in the config'
    assert error_message(AssertionError('failed to load image: a.jpg')) == (
        'failed to load image: a.jpg; the file is not an image or is damaged'
    )
    for bug in (ValueError('x'), KeyError('x'), AssertionError('x'), RuntimeError('x'), OSError(5, 'I/O error')):
        assert error_message(bug) is None


def test_notes_speak_for_all_processes(monkeypatch, tmp_path, capfd):
    monkeypatch.setenv('MMATCONV_MESSAGES', str(tmp_path))
    for rank in ('1', '0'):
        monkeypatch.setenv('RANK', rank)
        messages.print_error(f'error: from {rank}')
    assert capfd.readouterr().err == ''
    os.utime(tmp_path / '1', ns=(1, 1))
    assert torchrun._first_message(tmp_path) == 'error: from 1'


def test_first_process_of_a_machine_speaks(monkeypatch, capfd):
    for local_rank, heard in (('1', ''), ('0', 'error: x\n')):
        monkeypatch.setenv('LOCAL_RANK', local_rank)
        messages.print_error('error: x')
        assert capfd.readouterr().err == heard


# ---- the shell scripts -------------------------------------------------------------------------------------------


@pytest.fixture
def srun(tmp_path):
    """Runs a Slurm script where srun prints its arguments, one a line."""
    script(tmp_path, 'srun', 'printf "%s\\n" "$@"')

    def call(name, *arguments, **variables):
        environment = {**os.environ, 'PATH': f'{tmp_path}:{os.environ["PATH"]}', 'PYTHON': 'py', **variables}
        command = [str(PROJECT / 'tools' / name), *arguments]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)

    return call


def test_slurm_train(srun):
    answer = srun(
        'slurm_train.sh', 'part', 'a job', 'c.py', '--cfg-options', 'a=[1, 2]', GPUS='16', SRUN_ARGS='-A me --qos=q'
    )
    assert answer.stdout.splitlines() == [
        '--partition=part', '--job-name=a job', '--ntasks=16', '--ntasks-per-node=8', '--cpus-per-task=5',
        '--kill-on-bad-exit=1', '--gres=gpu:8', '-A', 'me', '--qos=q', 'py', '-u', f'{PROJECT}/tools/train.py', 'c.py',
        '--cfg-options', 'a=[1, 2]', '--launcher', 'slurm',
    ]  # fmt: skip


def test_slurm_test_on_cpus(srun):
    variables = dict(GPUS='4', GPUS_PER_NODE='2', CPUS_PER_TASK='3', GRES='none')
    answer = srun('slurm_test.sh', 'part', 'job', 'c.py', 'c.pth', '--tta', **variables)
    assert answer.stdout.splitlines() == [
        '--partition=part', '--job-name=job', '--ntasks=4', '--ntasks-per-node=2', '--cpus-per-task=3',
        '--kill-on-bad-exit=1', 'py', '-u', f'{PROJECT}/tools/test.py', 'c.py', 'c.pth', '--tta', '--launcher', 'slurm',
    ]  # fmt: skip


@pytest.mark.parametrize('name', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh'])
def test_scripts_say_how_they_are_called(srun, name):
    answer = srun(name, 'c.py')
    assert answer.returncode == 2
    assert answer.stderr.startswith('error: usage: ')
    assert answer.stderr.count('\n') == 1
