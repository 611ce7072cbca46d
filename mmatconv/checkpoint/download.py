"""Checkpoints from http(s) addresses: one process downloads, the others wait."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from mmatconv.errors import UserError


def is_address(path: str | os.PathLike) -> bool:
    """Whether it is an http(s) address."""
    return str(path).startswith(('http://', 'https://'))


def download(address: str) -> Path:
    """The file at an address, in the folder where torch.hub and MMEngine keep theirs.

    Of all processes that share the folder, one downloads, and the others wait until the file is there. A lock of the
    operating system decides which one, so that this needs no process group and no process waits for a dead one.

    Raises:
        UserError: It cannot be downloaded.
    """
    path = Path(torch.hub.get_dir(), 'checkpoints', os.path.basename(address.partition('?')[0]))
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_name(f'.{path.name}.lock')):
            if not path.exists():
                torch.hub.download_url_to_file(address, str(path), progress=sys.stderr.isatty())
    except OSError as error:
        raise UserError(f"checkpoint '{address}' cannot be downloaded ({error}); check the address.") from error
    return path


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that ends with the process; without one where the system or the disk has none.

    Downloads without a lock are whole all the same: torch.hub writes beside the file and renames.
    """
    with path.open('a') as file:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield
