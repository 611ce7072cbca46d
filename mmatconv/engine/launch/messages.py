"""What processes say to the user: once, however many of them have it to say."""

import os
import sys
from pathlib import Path

import torch.distributed as dist

# Set by mmatconv.engine.launch.torchrun: the folder where each process leaves its message, so that the launcher prints
# one of them once.
MESSAGES = 'MMATCONV_MESSAGES'
# The end of a message's file name: it is about another process that is gone.
CONSEQUENCE = '.lost'
# Set by the user: tracebacks for everything.
DEBUG = 'MMATCONV_DEBUG'


def print_error(line: str, first_only: bool = False, consequence: bool = False) -> None:
    """Prints a line to stderr once, however many processes have it to say.

    Args:
        line: what to say.
        first_only: only the first process of each machine speaks, although the process group is up.
        consequence: the line tells of another process; what that one says, or how it ended, explains more.
    """
    rank = os.environ.get('RANK', '0')
    if os.environ.get(MESSAGES):
        Path(os.environ[MESSAGES], rank + (CONSEQUENCE if consequence else '')).write_text(line, encoding='utf-8')
        return
    # Before the group is up every process meets the same error; afterwards one may fail alone.
    alone = dist.is_available() and dist.is_initialized() and not first_only
    if alone or _local_rank() == 0:
        prefix = f'[process {rank}] ' if alone and dist.get_world_size() > 1 else ''
        print(f'{prefix}{line}', file=sys.stderr, flush=True)


def print_once(line: str) -> None:
    """Prints a line from the first process; for what happens before there is a logger."""
    if os.environ.get('RANK', '0') == '0':
        print(line, flush=True)


def others_failed() -> bool:
    """Whether this process only lost its partner: the one that failed first has left its message already."""
    folder = os.environ.get(MESSAGES)
    return (
        bool(folder)
        and dist.is_initialized()
        and any(path.name != os.environ['RANK'] and path.suffix != CONSEQUENCE for path in Path(folder).iterdir())
    )


def _local_rank() -> int:
    names = ('LOCAL_RANK', 'SLURM_LOCALID', 'OMPI_COMM_WORLD_LOCAL_RANK')
    value = next((os.environ[name] for name in names if os.environ.get(name)), '0')
    return int(value) if value.isdigit() else 0
