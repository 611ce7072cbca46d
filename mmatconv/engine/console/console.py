"""Keeps what other packages print, log and warn out of the console; it goes to the log file."""

import inspect
import logging
import os
import re
import shutil
import sys
import time
import warnings
from collections import deque
from pathlib import Path
from typing import Any, TextIO

from mmengine.logging import MMLogger

OURS = str(Path(__file__).resolve().parents[2]) + os.sep
# Packages that print to the console what belongs in a log.
CHATTY = ('mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain', 'pycocotools')
DEPRECATIONS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ImportWarning)
# Warnings of other packages that no user of a config can act on.
HOUSEKEEPING = re.compile(
    r'deprecat|not installed|could not import|is skipped since|is duplicate|prefix is not set|has no metainfo'
    r'|more than once|save_param_scheduler|reach the end of the dataloader|cannot be copied|is not HistoryBuffer'
    r'|is ambiguous|non-?writable|out of bounds, the drawn|should not accept any other arguments'
    r'|will be force set to|environment variable for each process|avg_non_ignore|The draw is False',
    re.IGNORECASE,
)
# Where a log is read instead of a terminal watched: seconds between two lines of progress.
LINE_SECONDS = 60
# On a terminal, where the line is replaced.
REDRAW_SECONDS = 0.5


class Console:
    """The console of a tool, from ``with`` to the end of the block.

    Until a logger with a file is attached, what is kept from the console waits in memory.

    Args:
        verbose: Whether everything appears on the console as MMEngine writes it.
    """

    current: 'Console | None' = None  # of the tool that runs

    def __init__(self, verbose: bool = False) -> None:
        self.verbose = verbose
        self.out: TextIO = sys.stdout
        self._waiting: deque[logging.LogRecord] = deque(maxlen=1000)
        self._files: list[logging.Handler] = []
        self._seen: set[str] = set()
        self._line = False
        self._last_line = 0.0

    @property
    def first(self) -> bool:
        """Whether this is the process that speaks for all."""
        return not self.verbose and os.environ.get('RANK', '0') == '0'

    def __enter__(self) -> 'Console':
        if not self.verbose:
            self.out = sys.stdout
            self._saved = (sys.stdout, sys.stderr, warnings.showwarning)
            sys.stdout = _Stream(self, sys.stdout, chatty=CHATTY)
            sys.stderr = _Stream(self, sys.stderr)
            warnings.showwarning = self._show_warning
            self.attach(MMLogger.get_instance('mmengine'))
            Console.current = self
        return self

    def __exit__(self, *error: object) -> None:
        if not self.verbose:
            Console.current = None
            self.end_line()
            sys.stdout, sys.stderr, warnings.showwarning = self._saved
            logger = MMLogger.get_instance('mmengine')
            logger.handlers = [handler for handler in logger.handlers if not isinstance(handler, _Waiting)]

    def attach(self, logger: logging.Logger) -> None:
        """Lets only what a user needs pass from an MMEngine logger to the console; its file stays complete."""
        if self.verbose:
            return
        files = [handler for handler in logger.handlers if isinstance(handler, logging.FileHandler)]
        for handler in logger.handlers:
            if isinstance(handler, logging.StreamHandler) and handler not in files:
                handler.filters = [self._passes]
                handler.setFormatter(_Formatter())
        if files:
            self._files = files
            for record in self._waiting:
                self._keep(record)
            self._waiting.clear()
        elif self.first:
            logger.handlers.append(_Waiting(self))

    def say(self, text: str) -> None:
        """Shows lines, once for all processes."""
        if self.first:
            self.end_line()
            self.out.write(text + '\n')
            self.out.flush()

    def progress(self, line: str, due: bool, last: bool = False) -> None:
        """Replaces the last line of a terminal; adds one elsewhere, every :data:`LINE_SECONDS` at most.

        Args:
            line: How far the work is.
            due: Whether a log would have a line now.
            last: Whether this is the end of it, which is always shown.
        """
        now = time.monotonic()
        terminal = self.out.isatty()
        waited = now - self._last_line > (REDRAW_SECONDS if terminal else LINE_SECONDS)
        if not self.first or not (last or (waited and (due or terminal))):
            return
        self._last_line = now
        if terminal:
            self.out.write(f'\r{line[: shutil.get_terminal_size().columns - 1]}\x1b[K')
            self._line = True
        else:
            self.out.write(line + '\n')
        self.out.flush()

    def wants_progress(self) -> bool:
        """Whether a line could be shown now, so that it need not be composed for nothing."""
        seconds = REDRAW_SECONDS if self.out.isatty() else LINE_SECONDS
        return self.first and time.monotonic() - self._last_line > seconds

    def end_line(self) -> None:
        """Leaves the line of progress as it is, so that what follows begins below it."""
        if self._line:
            self._line = False
            self.out.write('\n')
            self.out.flush()

    def log(self, text: str, level: int = logging.INFO) -> None:
        """Adds a line to the log file, or to what waits for one."""
        self._keep(logging.LogRecord('mmengine', level, OURS, 0, text, None, None))

    def _keep(self, record: logging.LogRecord) -> None:
        if not self._files:
            self._waiting.append(record)
        for handler in self._files:
            handler.handle(record)

    def _passes(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            return True
        if not self.first:
            return False
        if record.levelno >= logging.WARNING:
            return self._once(record.getMessage(), record.pathname.startswith(OURS))
        return record.levelno == logging.INFO and record.pathname.startswith(OURS)

    def _once(self, message: str, ours: bool) -> bool:
        if message in self._seen or (not ours and HOUSEKEEPING.search(message)):
            return False
        self._seen.add(message)
        return True

    def _show_warning(
        self, message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any
    ) -> None:
        ours = os.path.abspath(filename).startswith(OURS)
        text = str(message)
        if self.first and (ours or not issubclass(category, DEPRECATIONS)) and self._once(text, ours):
            print(f'warning: {text}', file=sys.stderr, flush=True)
        self.log(f'{filename}:{lineno}: {category.__name__}: {text}', logging.WARNING)


class _Stream:
    """stdout or stderr, without what the modules of `chatty` packages print."""

    def __init__(self, console: Console, inner: TextIO, chatty: tuple[str, ...] = ()) -> None:
        self._console = console
        self._inner = inner
        self._chatty = chatty
        self._partial = ''

    def write(self, text: str) -> int:
        caller = inspect.currentframe().f_back.f_globals.get('__name__') or ''
        if caller.partition('.')[0] in self._chatty:
            *lines, self._partial = (self._partial + text).split('\n')
            for line in filter(str.strip, lines):
                self._console.log(line)
        else:
            self._console.end_line()
            self._inner.write(text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Waiting(logging.Handler):
    """Keeps the records of a logger without a file until there is one."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console._keep(record)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        prefix = {logging.INFO: '', logging.WARNING: 'warning: '}.get(record.levelno, f'{record.levelname.lower()}: ')
        return prefix + super().format(record)
