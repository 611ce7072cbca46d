"""Two machines train as one, and one of them lost ends the other: two network namespaces with an address each.

Where namespaces may not be made (no root), two loopback addresses stand for the machines, and a stopped process for a
cable that was pulled. ``pytest -rP`` shows which of the two was tested.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from mmatconv.engine.launch import interface

PROJECT = Path(__file__).resolve().parents[2]
CONFIGS = Path(__file__).parent / 'configs'
TIMEOUT_SECONDS = 10
SECONDS = 150
ENDLESS = ('train_cfg.max_epochs=100000', f'env_cfg.dist_cfg.timeout={TIMEOUT_SECONDS}')


def ip(*arguments):
    tool = shutil.which('ip', path=f'{os.environ["PATH"]}:/usr/sbin:/sbin')
    subprocess.run([tool or 'ip', *arguments], check=True, capture_output=True)


@dataclass
class Machines:
    """Two machines: how a command is started on each, and at which address the first is reached."""

    prefixes: tuple
    address: str
    separate: bool
    environment: dict
    folder: Path
    running: list = field(default_factory=list)

    def start(self, config, *options, **variables):
        """Starts training on both, one process each; returns both launchers."""
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = str(free.getsockname()[1])
        for rank, prefix in enumerate(self.prefixes):
            # Without a name that other machines resolve, as a container has none.
            common = dict(NNODES='2', NODE_RANK=str(rank), MASTER_ADDR=self.address, PORT=port, OMP_NUM_THREADS='1')
            log = self.folder / f'log{rank}'
            with log.open('w') as stream:
                process = subprocess.Popen(
                    [*prefix, PROJECT / 'tools' / 'dist_train.sh', CONFIGS / config, '1', '--work-dir', f'work{rank}']
                    + (['--cfg-options', *options] if options else []),
                    cwd=self.folder, env={**self.environment, **common, **variables},
                    stdout=stream, stderr=subprocess.STDOUT, start_new_session=True,
                )  # fmt: skip
            self.running.append(process)
        return self.running[-2:]

    def said(self, rank):
        return (self.folder / f'log{rank}').read_text()

    def wait_for_checkpoint(self):
        limit = time.monotonic() + SECONDS
        while not (self.folder / 'work0' / 'last_checkpoint').exists() and time.monotonic() < limit:
            assert all(process.poll() is None for process in self.running), self.said(0) + self.said(1)
            time.sleep(0.1)

    def pull_the_cable(self):
        """The second machine is there no more, without a word."""
        if self.separate:
            ip('-n', self.prefixes[1][-1], 'link', 'set', 'veth', 'down')
        else:
            for process in family(self.running[-1].pid):
                os.kill(process, signal.SIGSTOP)

    def sentence(self, rank):
        """The one line that the launcher of a machine has for the user."""
        lines = [line for line in self.said(rank).splitlines() if line.startswith('error: ')]
        assert len(lines) == 1, self.said(rank)
        assert 'Traceback' not in self.said(rank)
        return lines[0]


def family(process):
    """A process and its descendants."""
    children = [
        int(child)
        for task in Path(f'/proc/{process}/task').iterdir()
        for child in (task / 'children').read_text().split()
    ]
    return [process, *(pid for child in children for pid in family(child))]


def runs(process):
    """Whether a process is there and has not ended; in a container nobody may fetch what an orphan ended with."""
    try:
        state = Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()[0]
    except OSError:
        return False
    return state not in 'ZX'


def namespaces():
    """Two network namespaces joined by a cable, 10.213.0.1 and 10.213.0.2; None where they may not be made."""
    names = [f'mmatconv-{os.getpid()}-{side}' for side in 'ab']
    try:
        for name in names:
            ip('netns', 'add', name)
        ip('link', 'add', 'veth', 'netns', names[0], 'type', 'veth', 'peer', 'name', 'veth', 'netns', names[1])
        for number, name in enumerate(names, 1):
            ip('-n', name, 'addr', 'add', f'10.213.0.{number}/24', 'dev', 'veth')
            for link in ('lo', 'veth'):
                ip('-n', name, 'link', 'set', link, 'up')
    except (OSError, subprocess.CalledProcessError):
        remove(names)
        return None
    return names


def remove(names):
    for name in names:
        subprocess.run([shutil.which('ip', path='/usr/sbin:/sbin:/usr/bin') or 'true', 'netns', 'del', name],
                       check=False, capture_output=True)  # fmt: skip


@pytest.fixture
def machines(environment, tmp_path):
    names = namespaces()
    tool = shutil.which('ip', path=f'{os.environ["PATH"]}:/usr/sbin:/sbin')
    prefixes = tuple((tool, 'netns', 'exec', name) for name in names) if names else ((), ())
    print('two network namespaces' if names else 'two loopback addresses: no network namespaces without root')
    path = os.pathsep.join([str(CONFIGS), environment['PYTHONPATH']])
    made = Machines(
        prefixes, '10.213.0.1' if names else '127.0.0.2', bool(names), {**environment, 'PYTHONPATH': path}, tmp_path
    )
    yield made
    for process in made.running:
        if process.poll() is None:
            for pid in family(process.pid):
                os.kill(pid, signal.SIGKILL)
        process.wait()
    remove(names or ())


@pytest.mark.parametrize('config', ['cls.py', pytest.param('det.py', marks=pytest.mark.soak)])
def test_two_machines_compute_what_one_computes(machines, run, tmp_path, config):
    options = ('train_cfg.max_epochs=3', 'train_cfg.val_interval=10', 'default_hooks.logger.interval=1')
    launchers = machines.start(config, *options)
    assert [launcher.wait(SECONDS) for launcher in launchers] == [0, 0], machines.said(0) + machines.said(1)
    # Only the first process writes checkpoints; the validation after the last epoch needs no folder that both see.
    assert not list((tmp_path / 'work1').glob('*.pth'))
    one = ('--work-dir', 'one', '--cfg-options', *options)
    alone = run('dist_train.sh', config, 2, *one, cwd=tmp_path, OMP_NUM_THREADS='1')
    assert alone.status == 0, alone.errors
    folders = [tmp_path / name for name in ('work0', 'one')]
    states = [torch.load(folder / 'epoch_3.pth', weights_only=False)['state_dict'] for folder in folders]
    assert len(states[0]) > 50
    for name, weight in states[0].items():
        assert torch.allclose(weight, states[1][name], rtol=1e-6, atol=1e-6), name
    logs = [alone.scalars(next(folder.glob('2*/vis_data/scalars.json'))) for folder in folders]
    losses = [[line['loss'] for line in log if 'loss' in line] for log in logs]
    assert len(losses[0]) == 3
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


# The first machine holds the store at which all meet, so its loss is the harder one.
@pytest.mark.parametrize('lost', [0, pytest.param(1, marks=pytest.mark.soak)])
def test_one_machine_killed_ends_the_other(machines, lost):
    launchers = machines.start('wide.py', *ENDLESS, FAULT='slow=0.05')
    machines.wait_for_checkpoint()
    worker = family(launchers[lost].pid)[-1]
    os.killpg(launchers[lost].pid, signal.SIGKILL)
    left = 1 - lost
    assert launchers[left].wait(TIMEOUT_SECONDS + 20) == 1
    sentence = machines.sentence(left)
    assert sentence.startswith('error: the connection to another process is lost (')
    assert sentence.endswith(
        'see its output on its machine, then start all processes again; --resume continues a training'
    )
    # The killed launcher's own process, in a session of its own, does not go on without it.
    launchers[lost].wait()
    limit = time.monotonic() + TIMEOUT_SECONDS
    while runs(worker) and time.monotonic() < limit:
        time.sleep(0.1)
    assert not runs(worker)


def test_one_machine_that_is_silent_ends_the_other(machines):
    launchers = machines.start('wide.py', *ENDLESS, FAULT='slow=0.05')
    machines.wait_for_checkpoint()
    machines.pull_the_cable()
    assert launchers[0].wait(3 * TIMEOUT_SECONDS + 20) == 1
    sentence = machines.sentence(0)
    assert sentence.startswith(
        f'error: another process did not answer within {TIMEOUT_SECONDS} s (env_cfg.dist_cfg.timeout'
    )


@pytest.mark.parametrize('host', ['127.0.0.1', '127.0.0.2', 'localhost'])
def test_interface_of_the_loopback(host):
    assert interface.find_interface(host) == 'lo'


def test_interface_is_the_users_or_unknown(monkeypatch):
    monkeypatch.setenv('GLOO_SOCKET_IFNAME', 'mine')
    interface.choose_gloo_interface('127.0.0.1')
    assert os.environ['GLOO_SOCKET_IFNAME'] == 'mine'
    assert interface.find_interface('no-such-host.invalid') is None
