"""How a tool ends: one sentence for what the user can mend, a traceback for a bug, a pointer after an interruption."""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import torch.distributed as dist

from mmatconv.engine.cli.error_messages import lost_partner, sentence_of

# Set by mmatconv.engine.launch.torchrun: where a process leaves its sentence, so that the launcher prints one of
# them once.
NOTES = 'MMATCONV_NOTES'
# The end of a note's name: it tells of another process that is gone.
CONSEQUENCE = '.lost'
# Set by the user: tracebacks for everything.
DEBUG = 'MMATCONV_DEBUG'


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class Progress:
    """What the closing line needs to know of a run that was interrupted."""

    training_dir: str | None = None
    advice: str | None = None


def run(main: Callable[[Progress], None]) -> int:
    """Runs a tool and returns its exit status: 0, 1 after an error, 128 plus the signal after an interruption."""
    progress = Progress()
    _catch_signals()
    try:
        main(progress)
    except KeyboardInterrupt as error:
        signum = getattr(error, 'signum', signal.SIGINT)
        tell(_farewell(progress), first_only=True)
        # torchrun sends the signal a second time; it ends the process now, without a traceback from the exit handlers.
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_DFL)
        return 128 + signum
    except Exception as error:
        sentence = None if os.environ.get(DEBUG) else sentence_of(error)
        if sentence and not (lost_partner(error) and _others_failed()):
            tell(f'error: {sentence}', last=lost_partner(error) is not None)
        elif not _others_failed():
            traceback.print_exc()
        return 1
    return 0


def tell(line: str, first_only: bool = False, last: bool = False) -> None:
    """Brings a line to the user once, however many processes have it to say.

    Args:
        line: what to say.
        first_only: let only the first process of each machine speak, although the process group is up.
        last: what other processes say, or how they ended, explains more.
    """
    rank = os.environ.get('RANK', '0')
    if os.environ.get(NOTES):
        Path(os.environ[NOTES], rank + (CONSEQUENCE if last else '')).write_text(line, encoding='utf-8')
        return
    # Before the group is up every process meets the same error; afterwards one may fail alone.
    alone = dist.is_available() and dist.is_initialized() and not first_only
    if alone or _local_rank() == 0:
        prefix = f'[process {rank}] ' if alone and dist.get_world_size() > 1 else ''
        print(f'{prefix}{line}', file=sys.stderr, flush=True)


def note(line: str) -> None:
    """Prints what happens before there is a logger, once for all processes."""
    if os.environ.get('RANK', '0') == '0':
        print(line, flush=True)


def last_checkpoint(work_dir: str) -> Path | None:
    """The newest checkpoint MMEngine wrote below `work_dir`, also after the folder was moved."""
    pointer = Path(work_dir, 'last_checkpoint')
    if not pointer.is_file():
        return None
    named = Path(pointer.read_text(encoding='utf-8').strip())
    moved = Path(work_dir, named.name)
    return next((path for path in (named, moved) if path.is_file()), None)


def last_finite(work_dir: str) -> str:
    """Words for the newest checkpoint, whose weights are finite because no others are written."""
    checkpoint = last_checkpoint(work_dir)
    return f'the last finite checkpoint is {checkpoint}' if checkpoint else 'no checkpoint was written yet'


def _farewell(progress: Progress) -> str:
    if progress.training_dir is None:
        return f'interrupted; {progress.advice}' if progress.advice else 'interrupted'
    checkpoint = last_checkpoint(progress.training_dir)
    if checkpoint is None:
        return f'interrupted before the first checkpoint was written to {progress.training_dir}'
    return f'interrupted; the last checkpoint is {checkpoint}, call the same command with --resume to go on from it'


def _local_rank() -> int:
    names = ('LOCAL_RANK', 'SLURM_LOCALID', 'OMPI_COMM_WORLD_LOCAL_RANK')
    value = next((os.environ[name] for name in names if os.environ.get(name)), '0')
    return int(value) if value.isdigit() else 0


def _others_failed() -> bool:
    """Whether this process only lost its partner: the one that failed first has left its sentence already."""
    folder = os.environ.get(NOTES)
    return (
        bool(folder)
        and dist.is_initialized()
        and any(path.name != os.environ['RANK'] and path.suffix != CONSEQUENCE for path in Path(folder).iterdir())
    )


def _catch_signals() -> None:
    owner = os.getpid()

    def handle(signum: int, frame: FrameType | None) -> None:
        # Forked data workers inherit this handler; their parent ends them.
        if os.getpid() != owner:
            return
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_IGN)
        raise Interrupted(signum)

    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, handle)
