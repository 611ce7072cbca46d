"""A folder that a converter writes whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmatconv.errors import UserError


@contextmanager
def fresh_folder(target: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder to write to, which becomes ``target`` once everything in it is written.

    Args:
        target: A folder that does not exist yet, or is empty.

    Yields:
        ``target`` with ``.partial`` behind its name. An error, or a call that was killed before, leaves nothing that
        looks complete.

    Raises:
        UserError: ``target`` is a file, or holds something.
    """
    target = Path(target)
    if target.exists() and not target.is_dir():
        raise UserError(f"'{target}' is a file, expected a folder to write to; choose another.")
    if target.is_dir() and any(target.iterdir()):
        raise UserError(f"the folder '{target}' is not empty and is not overwritten; remove it or choose another.")
    partial = target.with_name(target.name + '.partial')
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if target.is_dir():
            target.rmdir()
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
