"""Checkpoint files on the disk: written whole or not at all, and found again after a fault."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmatconv.checkpoint.reader import read_checkpoint
from mmatconv.engine.launch.messages import print_once
from mmatconv.errors import UserError
from mmatconv.openmmlab import whole_files

# What a file is called until it is complete.
PARTIAL = '.partial'
# Errors of a write to a full or read-only disk.
DEVICE_FULL = {
    errno.ENOSPC: 'the disk is full',
    errno.EDQUOT: 'the disk quota is used up',
    errno.EFBIG: 'files may not become that large here (ulimit -f)',
    errno.EROFS: 'read-only',
}


def write_whole(target: Path, write: Callable[[Path], Any]) -> None:
    """Has a file written under another name in the same folder, and renames it once it is on the disk.

    Args:
        target: The file; one that exists is replaced in one step.
        write: Writes to the path it is given. If it fails, nothing is left behind.
    """
    partial = target.with_name(target.name + PARTIAL)
    try:
        write(partial)
        _to_disk(partial)
        os.replace(partial, target)
        _to_disk(target.parent)
    finally:
        partial.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_partial(folder: Path) -> list[Path]:
    """Removes what a killed process left half written; returns the files."""
    patterns = (f'*.pth{PARTIAL}', f'last_checkpoint{PARTIAL}', f'{whole_files.PARTIAL}*')
    left = [path for pattern in patterns for path in folder.glob(pattern)]
    for path in left:
        path.unlink(missing_ok=True)
    return left


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


def read_meta(path: Path) -> dict[str, Any]:
    """The ``meta`` of a checkpoint that training can be resumed from.

    Raises:
        UserError: it is damaged, or holds no state of the optimizer.
    """
    checkpoint = read_checkpoint(path, 'meta')
    meta = checkpoint.get('meta')
    missing = [key for key in ('message_hub', 'optimizer') if key not in checkpoint]
    if missing or not isinstance(meta, dict) or not {'epoch', 'iter'} <= set(meta):
        raise UserError(
            f"checkpoint '{path}' cannot be resumed from: it does not hold {', '.join(missing) or 'the iteration'}; "
            'name one that training wrote, such as epoch_1.pth'
        )
    return meta


def newest_usable(work_dir: str) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint of a work dir to resume training from, and its ``meta``; None if there is none.

    The file ``last_checkpoint`` names it. What is damaged is passed over in favour of the newest file that is not, and
    a line says so.

    Raises:
        UserError: there are checkpoints, but none is usable.
    """
    named = last_checkpoint(work_dir)
    pointer = Path(work_dir, 'last_checkpoint')
    reason, folder = '', Path(work_dir)
    if named is not None:
        folder = named.parent
    elif pointer.is_file():
        text = pointer.read_text(encoding='utf-8', errors='replace').strip()
        reason = f"'{pointer}' names a checkpoint that does not exist ('{text}')"
        if Path(text).is_absolute() and Path(text).parent.is_dir():
            folder = Path(text).parent
    for path in [*([named] if named else []), *(other for other in _by_age(folder) if other != named)]:
        try:
            meta = read_meta(path)
        except UserError as error:
            reason = reason or str(error).rpartition(';')[0]
            continue
        if path != named:
            reason = reason or f"'{pointer}' is missing"
            print_once(f'warning: {reason}; resuming from {path}, the newest intact one')
        return path, meta
    if reason:
        raise UserError(
            f'{reason}, and {folder} holds no other to resume from; name one with --resume PATH, or leave --resume out '
            'to start over'
        )
    return None


def _by_age(folder: Path) -> list[Path]:
    """The checkpoints of a folder, the newest first; the best ones hold no optimizer."""
    files = [path for path in folder.glob('*.pth') if path.is_file() and not path.name.startswith('best_')]
    return sorted(files, key=lambda path: path.stat().st_mtime_ns, reverse=True)
