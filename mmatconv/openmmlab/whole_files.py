"""Files that MMEngine writes are whole or not there: the target is replaced in one step.

MMEngine writes metrics, dumped predictions, pictures and configs in place: a process that is killed, or a second one
that writes the same file, leaves half of one and half of another.
"""

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmatconv.openmmlab.log import log_change

# How the name of a file begins until it is complete.
PARTIAL = '.partial-'


def use_whole_files() -> None:
    """Puts MMEngine's writes to this machine's files, and ``Config.dump``, behind a rename."""
    from mmengine.config import Config
    from mmengine.fileio import LocalBackend, io, register_backend

    if getattr(Config.dump, 'whole', False):
        return

    class WholeFileBackend(LocalBackend):
        """MMEngine's local files."""

        def put(self, obj: bytes, filepath: str | Path) -> None:
            """Writes bytes; the folder is made."""
            write = super().put
            replace_file(filepath, lambda partial: write(obj, partial))

        def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
            """Writes text; the folder is made."""
            write = super().put_text
            replace_file(filepath, lambda partial: write(obj, partial, encoding))

    dump_in_place = Config.dump

    def dump(self: Config, file: str | Path | None = None) -> str | None:
        if file is None:
            return dump_in_place(self)
        return replace_file(file, lambda partial: dump_in_place(self, partial))

    dump.whole = True
    register_backend('local', WholeFileBackend, force=True, prefixes='')
    io.backend_instances.clear()
    Config.dump = dump
    reason = 'a file is replaced in one step, so that it is whole whatever happens'
    log_change("mmengine.fileio's local backend", reason)
    log_change('mmengine.Config.dump', reason)


def replace_file(target: str | Path, write: Callable[[str], Any]) -> Any:
    """Has a file written under a name of its own in the same folder, then renames it; returns what `write` returns."""
    target = Path(target)
    # The end of the name stays: Config.dump chooses the format by it.
    partial = target.with_name(f'{PARTIAL}{uuid.uuid4().hex[:8]}-{target.name}')
    try:
        returned = write(str(partial))
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return returned
