"""Where this process stands among the others, and the process group it joins: NCCL/RCCL with GPUs, gloo without.

MMEngine's own launcher calls torch.cuda.set_device first and dies on a machine without a GPU. A group that is up
before the Runner is built is respected by MMEngine, so it is made here.
"""

import atexit
import contextlib
import ctypes
import datetime
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import warnings
from dataclasses import dataclass
from typing import NoReturn

import torch
import torch.distributed as dist

from mmatconv.engine.launch.interface import choose_gloo_interface
from mmatconv.errors import UserError

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')
# 20000 ports from here are shared out among Slurm jobs; the first ephemeral port on Linux is 32768.
FIRST_SLURM_PORT = 12768
PR_SET_PDEATHSIG = 1  # Linux's prctl


@dataclass(frozen=True)
class Place:
    """This process among all processes of the run."""

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    local_world_size: int = 1


def find_place(launcher: str) -> Place:
    """Reads the launcher's variables and sets those torch.distributed and MMEngine read.

    Raises:
        UserError: a variable is missing or is no number, or the machine has fewer GPUs than processes.
    """
    if launcher == 'none':
        return Place()
    if launcher == 'pytorch':
        place = _pytorch_place()
    elif launcher == 'slurm':
        place = _slurm_place()
    elif launcher == 'mpi':
        place = _mpi_place()
    else:
        raise UserError(f"launcher '{launcher}' is unknown; choose one of {', '.join(LAUNCHERS)}")
    check_devices(place.local_world_size)
    return place


def check_devices(processes: int) -> None:
    """Each process drives one GPU; where there is none, any number of processes may run on the CPU.

    Raises:
        UserError: there are GPUs, but fewer than processes.
    """
    visible = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if 0 < visible < processes:
        raise UserError(
            f'{processes} processes asked for but {visible} GPU{"s are" if visible > 1 else " is"} visible on '
            f"{socket.gethostname()}; start at most {visible} there, or set CUDA_VISIBLE_DEVICES='' for the CPU"
        )


def start(launcher: str, place: Place, dist_cfg: dict) -> None:
    """Joins the process group.

    Args:
        launcher: how the processes were started; 'none' makes no group.
        place: what :func:`find_place` returned.
        dist_cfg: the config's ``env_cfg.dist_cfg``: ``backend``, ``timeout`` in seconds, and anything else
            ``torch.distributed.init_process_group`` takes.

    Raises:
        UserError: the timeout is no number, or the other processes cannot be reached.
    """
    if launcher == 'none' or dist.is_initialized():
        return
    if launcher == 'pytorch':
        _end_with_launcher()
    options = dict(dist_cfg)
    backend = options.pop('backend', 'nccl')
    options.pop('init_backend', None)
    port = options.pop('port', None)
    if launcher == 'slurm' and port is not None:
        os.environ['MASTER_PORT'] = str(port)
    if options.get('timeout') is not None:
        options['timeout'] = _timeout(options['timeout'])
    if torch.cuda.is_available():
        torch.cuda.set_device(place.local_rank)
    else:
        backend = 'gloo'
        torch.set_num_threads(share_threads(place.local_world_size))
    if backend == 'gloo':
        choose_gloo_interface(os.environ.get('MASTER_ADDR', 'localhost'))
    # Gradients of depthwise kernels come in strides of their own; torch says so at length, and copies them once a step.
    warnings.filterwarnings('ignore', message='Grad strides do not match bucket view strides')
    try:
        dist.init_process_group(backend, rank=place.rank, world_size=place.world_size, **options)
    except RuntimeError as error:
        raise UserError(
            f'process {place.rank} could not join the {place.world_size} processes at '
            f'{os.environ["MASTER_ADDR"]}:{os.environ["MASTER_PORT"]}; check MASTER_ADDR, PORT and NODE_RANK, that '
            f'every machine was started, and that GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME, if set, is the interface '
            f'between them ({str(error).splitlines()[0]})'
        ) from error


def stop() -> None:
    """Leaves the process group; NCCL warns about processes that end without."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def leave(status: int) -> NoReturn:
    """Ends a tool's process; one of several without the interpreter's own way out.

    Threads that torch's process groups leave behind have been seen to abort a process, or to keep it, on that way.
    """
    if 'WORLD_SIZE' not in os.environ:
        sys.exit(status)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def share_threads(processes: int) -> int:
    """Sets OMP_NUM_THREADS and MKL_NUM_THREADS, where they are not set, to this machine's cores over `processes`.

    torchrun and MMEngine would both fall back to one thread, which leaves most of a CPU-only machine idle.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    threads = os.environ.get('SLURM_CPUS_PER_TASK') or str(max(1, cores // processes))
    for name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS'):
        os.environ.setdefault(name, threads)
    try:
        return max(1, int(os.environ['OMP_NUM_THREADS']))
    except ValueError:
        return 1


def _end_with_launcher() -> None:
    """A launcher that is killed cannot end its processes, which would go on and keep their GPUs."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _timeout(value: object) -> datetime.timedelta:
    if isinstance(value, datetime.timedelta):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise UserError(f'env_cfg.dist_cfg.timeout must be a positive number of seconds, got {value!r}')
    return datetime.timedelta(seconds=value)


def _number(name: str, launcher: str, how: str) -> int:
    value = os.environ.get(name, '')
    if not value.isdigit():
        given = f'is {value!r}' if value else 'is not set'
        raise UserError(f'--launcher {launcher} needs the variable {name}, a number, but it {given}; {how}')
    return int(value)


def _pytorch_place() -> Place:
    how = 'start with tools/dist_train.sh, tools/dist_test.sh or torchrun'
    rank, local_rank, world = (_number(name, 'pytorch', how) for name in ('RANK', 'LOCAL_RANK', 'WORLD_SIZE'))
    for name in ('MASTER_ADDR', 'MASTER_PORT'):
        if not os.environ.get(name):
            raise UserError(f'--launcher pytorch needs the variable {name}, but it is not set; {how}')
    local_world = os.environ.get('LOCAL_WORLD_SIZE', '')
    return Place(rank, local_rank, world, int(local_world) if local_world.isdigit() else local_rank + 1)


def _slurm_place() -> Place:
    how = 'start with tools/slurm_train.sh, tools/slurm_test.sh or srun'
    rank, world = (_number(name, 'slurm', how) for name in ('SLURM_PROCID', 'SLURM_NTASKS'))
    local_world = _slurm_tasks_here(world)
    local_rank = int(os.environ.get('SLURM_LOCALID') or rank % local_world)
    os.environ.setdefault('MASTER_ADDR', _first_slurm_host())
    # Two jobs that share a machine must not share a port; all tasks of one step compute the same number.
    job, step = (int(re.sub(r'\D', '', os.environ.get(name, '')) or 0) for name in ('SLURM_JOB_ID', 'SLURM_STEP_ID'))
    os.environ.setdefault('MASTER_PORT', str(FIRST_SLURM_PORT + (job * 7 + step % 1000) % 20000))
    _publish(rank, local_rank, world, local_world)
    return Place(rank, local_rank, world, local_world)


def _slurm_tasks_here(world: int) -> int:
    """Slurm writes tasks per node as '2(x3),1': two on each of the first three nodes, one on the fourth."""
    counts: list[int] = []
    text = os.environ.get('SLURM_STEP_TASKS_PER_NODE') or os.environ.get('SLURM_TASKS_PER_NODE') or ''
    for tasks, repeat in re.findall(r'(\d+)(?:\(x(\d+)\))?', text):
        counts += [int(tasks)] * int(repeat or 1)
    node = int(os.environ.get('SLURM_NODEID') or 0)
    return counts[node] if node < len(counts) else world


def _first_slurm_host() -> str:
    names = ('SLURM_STEP_NODELIST', 'SLURM_NODELIST', 'SLURM_JOB_NODELIST')
    nodes = next((os.environ[name] for name in names if os.environ.get(name)), '')
    if nodes and shutil.which('scontrol'):
        answer = subprocess.run(['scontrol', 'show', 'hostnames', nodes], capture_output=True, text=True, check=False)
        if answer.returncode == 0 and answer.stdout.split():
            return answer.stdout.split()[0]
    if re.fullmatch(r'[\w.-]+(,[\w.-]+)*', nodes):
        return nodes.split(',')[0]
    raise UserError(
        f"the first machine cannot be told from SLURM_NODELIST={nodes!r} without a working 'scontrol show hostnames'; "
        'set MASTER_ADDR to the name of the machine that runs process 0'
    )


def _mpi_place() -> Place:
    how = "start with Open MPI's mpirun"
    names = ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_LOCAL_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_SIZE')
    rank, local_rank, world, local_world = (_number(name, 'mpi', how) for name in names)
    if not os.environ.get('MASTER_ADDR'):
        raise UserError(
            '--launcher mpi needs the variable MASTER_ADDR, but it is not set; set it to the name of the machine that '
            'runs process 0 and pass it on with mpirun -x MASTER_ADDR'
        )
    os.environ.setdefault('MASTER_PORT', '29500')
    _publish(rank, local_rank, world, local_world)
    return Place(rank, local_rank, world, local_world)


def _publish(rank: int, local_rank: int, world: int, local_world: int) -> None:
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(local_rank), WORLD_SIZE=str(world), LOCAL_WORLD_SIZE=str(local_world)
    )
