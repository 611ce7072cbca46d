"""Which of the run's processes this one is, read from the launcher's environment variables."""

import os
import re
import shutil
import socket
import subprocess
from dataclasses import dataclass

import torch

from mmatconv.errors import UserError

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')
# 20000 ports from here are shared out among Slurm jobs; the first ephemeral port on Linux is 32768.
FIRST_SLURM_PORT = 12768


@dataclass(frozen=True)
class DistInfo:
    """This process among all processes of the run."""

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    local_world_size: int = 1


def read_dist_info(launcher: str) -> DistInfo:
    """Reads the launcher's variables and sets those torch.distributed and MMEngine read.

    Raises:
        UserError: a variable is missing or is not a number, or the machine has fewer GPUs than processes.
    """
    if launcher == 'none':
        return DistInfo()
    if launcher == 'pytorch':
        info = _pytorch_info()
    elif launcher == 'slurm':
        info = _slurm_info()
    elif launcher == 'mpi':
        info = _mpi_info()
    else:
        raise UserError(f"launcher '{launcher}' is unknown; choose one of {', '.join(LAUNCHERS)}")
    if not (launcher == 'slurm' and _own_gpus()):
        check_devices(info.local_world_size)
    return info


def _own_gpus() -> bool:
    """Whether Slurm shows each task GPUs of its own, as with --gpus-per-task, and not those of the whole machine."""
    return bool(os.environ.get('SLURM_GPUS_PER_TASK')) or (torch.cuda.is_available() and torch.cuda.device_count() == 1)


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


def _number(name: str, launcher: str, how: str) -> int:
    value = os.environ.get(name, '')
    if not value.isdigit():
        given = f'is {value!r}' if value else 'is not set'
        raise UserError(f'--launcher {launcher} needs the variable {name}, a number, but it {given}; {how}')
    return int(value)


def _pytorch_info() -> DistInfo:
    how = 'start with tools/dist_train.sh, tools/dist_test.sh or torchrun'
    rank, local_rank, world = (_number(name, 'pytorch', how) for name in ('RANK', 'LOCAL_RANK', 'WORLD_SIZE'))
    for name in ('MASTER_ADDR', 'MASTER_PORT'):
        if not os.environ.get(name):
            raise UserError(f'--launcher pytorch needs the variable {name}, but it is not set; {how}')
    local_world = os.environ.get('LOCAL_WORLD_SIZE', '')
    return DistInfo(rank, local_rank, world, int(local_world) if local_world.isdigit() else local_rank + 1)


def _slurm_info() -> DistInfo:
    how = 'start with tools/slurm_train.sh, tools/slurm_test.sh or srun'
    rank, world = (_number(name, 'slurm', how) for name in ('SLURM_PROCID', 'SLURM_NTASKS'))
    local_world = _slurm_tasks_here(world)
    local_rank = int(os.environ.get('SLURM_LOCALID') or rank % local_world)
    os.environ.setdefault('MASTER_ADDR', _first_slurm_host())
    # Two jobs that share a machine must not share a port; all tasks of one step compute the same number.
    job, step = (int(re.sub(r'\D', '', os.environ.get(name, '')) or 0) for name in ('SLURM_JOB_ID', 'SLURM_STEP_ID'))
    os.environ.setdefault('MASTER_PORT', str(FIRST_SLURM_PORT + (job * 7 + step % 1000) % 20000))
    _publish(rank, local_rank, world, local_world)
    return DistInfo(rank, local_rank, world, local_world)


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
        f"the first machine cannot be read from SLURM_NODELIST={nodes!r} without a working 'scontrol show hostnames'; "
        'set MASTER_ADDR to the name of the machine that runs process 0'
    )


def _mpi_info() -> DistInfo:
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
    return DistInfo(rank, local_rank, world, local_world)


def _publish(rank: int, local_rank: int, world: int, local_world: int) -> None:
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(local_rank), WORLD_SIZE=str(world), LOCAL_WORLD_SIZE=str(local_world)
    )
