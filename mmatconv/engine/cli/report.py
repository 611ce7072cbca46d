"""How a tool ends: one sentence for what the user can mend, a traceback for a bug, a pointer after an interruption."""

import os
import signal
import traceback
from collections.abc import Callable, Mapping
from types import FrameType, MappingProxyType
from typing import Any

from torch.utils.data import get_worker_info

from mmatconv.engine.cli.error_messages import error_message, lost_connection
from mmatconv.engine.launch.messages import DEBUG, others_failed, print_error
from mmatconv.engine.runner.checkpoint_files import last_checkpoint


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class Progress:
    """What the closing line needs to know of a run that was interrupted or failed."""

    config: Mapping[str, Any] = MappingProxyType({})
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
        print_error(_interruption(progress), first_only=True)
        # torchrun sends the signal a second time; it ends the process now, without a traceback from the exit handlers.
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_DFL)
        return 128 + signum
    except Exception as error:
        message = None if os.environ.get(DEBUG) else error_message(error, progress.config)
        if message and not (lost_connection(error) and others_failed()):
            print_error(f'error: {message}', consequence=lost_connection(error) is not None)
        elif not others_failed():
            traceback.print_exc()
        return 1
    return 0


def _interruption(progress: Progress) -> str:
    if progress.training_dir is None:
        return f'interrupted; {progress.advice}' if progress.advice else 'interrupted'
    checkpoint = last_checkpoint(progress.training_dir)
    if checkpoint is None:
        return f'interrupted before the first checkpoint was written to {progress.training_dir}'
    return f'interrupted; the last checkpoint is {checkpoint}, call the same command with --resume to continue from it'


def _catch_signals() -> None:
    owner = os.getpid()

    def handle(signum: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:
            # Forked children inherit this handler. Data workers are ended by their parent, which is interrupted too;
            # others, such as those of a pool, must end when they are told to, or who waits for them hangs.
            if signum == signal.SIGTERM and get_worker_info() is None:
                signal.signal(signum, signal.SIG_DFL)
                os.kill(os.getpid(), signum)
            return
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_IGN)
        # torch's handler raises an error for data workers that have got the signal too, and ended.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        raise Interrupted(signum)

    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, handle)
