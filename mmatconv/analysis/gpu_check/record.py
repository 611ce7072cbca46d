"""What a stage finds: checks and tables, printed and written to a file one by one, so that a crash loses none."""

import json
import os
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from mmatconv.errors import UserError

PACKAGE = str(Path(__file__).resolve().parents[2])
PASSED, FAILED, NEEDS_GPU, LEFT_OUT = 'passed', 'FAILED', 'needs a GPU', 'left out'


class Disagreement(UserError):
    """Two results that must be equal are not."""


class Record:
    """The findings of one stage.

    Args:
        path: File to write; what is there is replaced.
        synchronize: Waits for the device, so that an error of it is raised in the check that caused it.
    """

    def __init__(self, path: Path, synchronize: Callable[[], object] = lambda: None) -> None:
        self.path = path
        self.synchronize = synchronize
        self.checks: list[dict] = []
        self.tables: list[dict] = []
        self.finished = False

    def check(self, name: str, body: Callable[[], object]) -> None:
        """Run a check: it fails by raising. What it returns is printed beside its name.

        Raises:
            RuntimeError: The device no longer answers, so that no other check of this process could.
        """
        start = time.perf_counter()
        try:
            detail, status = body(), PASSED
            self.synchronize()
        except Exception as error:
            detail, status = _describe(error), FAILED
        self._add(name, status, '' if detail is None else str(detail), time.perf_counter() - start)
        if status == FAILED:
            self.synchronize()

    def needs_gpu(self, *names: str) -> None:
        """Note checks that only a GPU can run."""
        for name in names:
            self._add(name, NEEDS_GPU)

    def left_out(self, name: str, reason: str) -> None:
        """Note a check that this machine lacks something for."""
        self._add(name, LEFT_OUT, reason)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Keep a table."""
        self.tables.append(dict(title=title, columns=list(columns), rows=[list(map(str, row)) for row in rows]))
        print(table_text(self.tables[-1]), flush=True)
        self.save()

    def finish(self) -> None:
        """Note that the stage came to its end."""
        self.finished = True
        self.save()

    def _add(self, name: str, status: str, detail: str = '', seconds: float = 0.0) -> None:
        self.checks.append(dict(name=name, status=status, detail=detail, seconds=round(seconds, 2)))
        print(check_text(self.checks[-1]), flush=True)
        self.save()

    def save(self) -> None:
        content = dict(checks=self.checks, tables=self.tables, finished=self.finished)
        scratch = self.path.with_suffix('.part')
        scratch.write_text(json.dumps(content), encoding='utf-8')
        os.replace(scratch, self.path)


def _describe(error: Exception) -> str:
    if isinstance(error, Disagreement):
        return str(error)
    # The first frame is this file's.
    frames = traceback.extract_tb(error.__traceback__)[1:]
    own = [frame for frame in frames if frame.filename.startswith(PACKAGE)] or frames
    places = ', '.join(f'{Path(frame.filename).name}:{frame.lineno}' for frame in own[-3:])
    return f'{type(error).__name__}: {str(error)[:2000]} ({places})'


def check_text(check: dict) -> str:
    """One line of a check."""
    detail = f': {check["detail"]}' if check['detail'] else ''
    return f'  {check["status"]:<12}{check["name"]}{detail}'


def table_text(table: dict) -> str:
    """A table with aligned columns."""
    rows = [table['columns'], *table['rows']]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table['columns']))]
    lines = ['  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return '\n'.join(f'  {line}' for line in ['', table['title'], *lines, ''])
