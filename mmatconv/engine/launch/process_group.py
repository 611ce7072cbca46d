"""The process group of a run: NCCL/RCCL with GPUs, gloo without.

MMEngine's own launcher calls torch.cuda.set_device first and dies on a machine without a GPU. A group that is up
before the Runner is built is respected by MMEngine, so it is made here.
"""

import atexit
import contextlib
import ctypes
import datetime
import os
import signal
import sys
from typing import NoReturn

import torch
import torch.distributed as dist

from mmatconv.engine.launch.dist_info import DistInfo
from mmatconv.engine.launch.interface import choose_gloo_interface
from mmatconv.errors import UserError
from mmatconv.openmmlab.grad_strides import ignore_grad_strides

PR_SET_PDEATHSIG = 1  # Linux's prctl


def init_process_group(launcher: str, info: DistInfo, dist_cfg: dict) -> None:
    """Joins the process group.

    Args:
        launcher: how the processes were started; 'none' makes no group.
        info: what :func:`~mmatconv.engine.launch.dist_info.read_dist_info` returned.
        dist_cfg: the config's ``env_cfg.dist_cfg``: ``backend``, ``timeout`` in seconds, and anything else
            ``torch.distributed.init_process_group`` takes.

    Raises:
        UserError: the timeout is not a number, or the other processes cannot be reached.
    """
    if launcher == 'none' or dist.is_initialized():
        return
    if dist.is_torchelastic_launched():
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
        # Slurm may show each task its own GPUs alone, which are then numbered from 0 in all of them.
        torch.cuda.set_device(info.local_rank % torch.cuda.device_count())
    else:
        backend = 'gloo'
        torch.set_num_threads(share_threads(info.local_world_size))
    if backend == 'gloo':
        choose_gloo_interface(os.environ.get('MASTER_ADDR', 'localhost'))
    ignore_grad_strides()
    try:
        dist.init_process_group(backend, rank=info.rank, world_size=info.world_size, **options)
    except RuntimeError as error:
        raise UserError(
            f'process {info.rank} could not join the {info.world_size} processes at '
            f'{os.environ["MASTER_ADDR"]}:{os.environ["MASTER_PORT"]}; check MASTER_ADDR, PORT and NODE_RANK, that '
            f'every machine was started, and that GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME, if set, is the interface '
            f'between them ({str(error).splitlines()[0]})'
        ) from error


def destroy_process_group() -> None:
    """Leaves the process group; NCCL warns about processes that end without."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def exit_process(status: int) -> NoReturn:
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
    """Has the kernel end this process with its parent, torchrun: one that is killed cannot end its processes.

    Not for a process that was started otherwise: its parent may be a shell that ends long before it, as under nohup.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _timeout(value: object) -> datetime.timedelta:
    if isinstance(value, datetime.timedelta):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise UserError(f'env_cfg.dist_cfg.timeout must be a positive number of seconds, got {value!r}')
    return datetime.timedelta(seconds=value)
