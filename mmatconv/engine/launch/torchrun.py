"""torchrun for tools/dist_*.sh: `python -m mmatconv.engine.launch.torchrun N SCRIPT ARGS...`

Same launcher as `torchrun`, with two differences: what a worker has to say to the user is printed once, without the
launcher's own traceback around it, and a CPU-only machine's cores are shared out instead of one thread a process.
"""

import logging
import os
import signal
import sys
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed import run as torch_run
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from mmatconv.engine.launch import messages
from mmatconv.engine.launch.dist_info import check_devices
from mmatconv.engine.launch.process_group import share_threads
from mmatconv.errors import UserError


def arguments(processes: str, script: list[str]) -> list[str]:
    """torchrun's arguments from N and the variables NNODES, NODE_RANK, MASTER_ADDR and PORT.

    Raises:
        UserError: one of them is not a number, or several machines are asked for without saying which is the first.
    """
    count = _count('N, the number of processes,', processes, least=1)
    nodes = _count('NNODES', os.environ.get('NNODES') or '1', least=1)
    node = _count('NODE_RANK', os.environ.get('NODE_RANK') or '0', least=0)
    address, port = os.environ.get('MASTER_ADDR'), os.environ.get('PORT')
    common = [f'--nproc-per-node={count}', f'--nnodes={nodes}', '--monitor-interval=0.2']
    if nodes == 1 and not port:
        # A free port is picked, so that two runs on one machine do not meet.
        return [*common, '--rdzv-backend=c10d', '--rdzv-endpoint=localhost:0', '--local-addr=localhost', *script]
    if nodes > 1 and not address:
        raise UserError(f'NNODES={nodes} needs MASTER_ADDR, the name of the machine with NODE_RANK=0')
    if node >= nodes:
        raise UserError(f'NODE_RANK={node} must be below NNODES={nodes}')
    number = _count('PORT', port or '29500', least=1)
    where = [f'--node-rank={node}', f'--master-addr={address or "127.0.0.1"}', f'--master-port={number}']
    return [*common, *where, *script]


def main(argv: list[str]) -> int:
    """Starts the processes and waits for them.

    Returns:
        0, or the exit status of the process that failed first, or 128 plus the signal that ended the run.
    """
    try:
        command = arguments(argv[0], argv[1:])
        check_devices(int(argv[0]))
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    if not torch.cuda.is_available():
        share_threads(int(argv[0]))
    if not os.environ.get(messages.DEBUG):
        logging.disable(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix='mmatconv-') as folder:
        os.environ[messages.MESSAGES] = folder
        try:
            torch_run.main(command)
        except ChildFailedError as error:
            return _explain(error, Path(folder))
        except (SignalException, KeyboardInterrupt) as error:
            print(_first_message(Path(folder)) or 'interrupted', file=sys.stderr)
            return 128 + int(getattr(error, 'sigval', signal.SIGINT))
        except getattr(dist, 'DistError', RuntimeError) as error:
            print(
                f'error: the processes could not meet ({str(error).splitlines()[0]}); '
                'choose another PORT, and check MASTER_ADDR',
                file=sys.stderr,
            )
            return 1
    return 0


def _explain(error: ChildFailedError, folder: Path) -> int:
    rank, failure = error.get_first_failure()
    # What the others say of a process that was killed is its consequence; the launcher itself ends them by SIGTERM.
    killed = [(r, f) for r, f in error.failures.items() if f.exitcode < 0 and f.exitcode != -signal.SIGTERM]
    message = _first_message(folder, alone=bool(killed))
    if killed and not message:
        rank, failure = killed[0]
    if message:
        print(message, file=sys.stderr)
    elif failure.exitcode < 0:
        name = signal.Signals(-failure.exitcode).name
        reason = ' (often the machine ran out of memory)' if name == 'SIGKILL' else ''
        print(f'error: process {rank} was ended by {name}{reason}', file=sys.stderr)
    else:
        print(f'error: process {rank} ended with status {failure.exitcode}; its messages are above', file=sys.stderr)
    return failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode


def _first_message(folder: Path, alone: bool = False) -> str:
    """The sentence of the process that spoke first; what others say is mostly its consequence.

    With ``alone``, only of a process that failed by itself.
    """
    files = [path for path in folder.iterdir() if not (alone and path.suffix == messages.CONSEQUENCE)]
    files.sort(key=lambda path: (path.suffix == messages.CONSEQUENCE, path.stat().st_mtime_ns, path.name))
    return files[0].read_text(encoding='utf-8') if files else ''


def _count(name: str, value: str, least: int) -> int:
    if not value.isdigit() or int(value) < least:
        raise UserError(f'{name} must be a whole number of at least {least}, got {value!r}')
    return int(value)


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
