"""Reading checkpoint files as data, never as code.

A checkpoint is a ``.safetensors`` file, or a torch file whose pickle may name tensors and what checkpoint_allowed.py
lists. There is no fallback to unrestricted unpickling; :func:`trust_checkpoints` is the one way to it.
"""

import contextlib
import os
import pickle
import re
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch

from mmatconv.checkpoint.allowed import allowed_globals, allowed_types
from mmatconv.checkpoint.unpickler import unpickling
from mmatconv.errors import UserError

_torch_load = torch.load
# Older ones have holes of their own, see checkpoint_unpickler.py.
_TORCH_READS_SAFELY = tuple(map(int, re.findall(r'\d+', torch.__version__)[:2])) >= (2, 10)
_trusting = False


class UnsafeCheckpointError(UserError):
    """Restoring a checkpoint would run code from the file."""


def read_checkpoint(path: str | os.PathLike, map_location: Any = 'cpu') -> dict[str, Any]:
    """Read a checkpoint file without executing anything it carries.

    Args:
        path: A ``.pth``, ``.pt`` or ``.safetensors`` file, or an http(s) address of one, which is downloaded once to
            torch.hub's folder.
        map_location: Where its tensors go, as for ``torch.load``. Default: 'cpu'.

    Returns:
        The dictionary in the file; a safetensors file becomes ``{'state_dict': tensors, 'meta': metadata}``.

    Raises:
        UserError: The file is missing, cannot be read, is truncated or damaged, holds objects that only
            unrestricted unpickling would restore, or holds no dictionary.
    """
    path = _fetched(str(path)) if _is_address(path) else Path(path).expanduser()
    if not path.exists():
        raise UserError(f"checkpoint '{path}' does not exist; check the path.")
    if not path.is_file():
        raise UserError(f"checkpoint '{path}' is a directory; name a file in it.")
    try:
        with path.open('rb') as file:
            checkpoint = _read(file, path, map_location)
    except PermissionError as error:
        raise UserError(f"checkpoint '{path}' cannot be read; check its permissions.") from error
    if not isinstance(checkpoint, dict):
        raise UserError(
            f"checkpoint '{path}' holds a {type(checkpoint).__name__}, expected a dictionary of tensors; "
            'save model.state_dict() instead.'
        )
    return checkpoint


def trust_checkpoints(trust: bool) -> None:
    """Whether this process unpickles without restriction what it cannot read as data: ``--trust-checkpoint``.

    Every file so read is named in a warning on the standard error stream. Nothing else turns it on.
    """
    global _trusting
    _trusting = trust


def guard_torch_load() -> None:
    """Make every ``torch.load`` of this process read as :func:`read_checkpoint` does, whoever calls it.

    MMEngine's loaders for addresses call it with ``weights_only=False`` after a refusal, or always (before torch 2.6).
    """

    def load(f: Any, map_location: Any = None, *_: Any, **__: Any) -> Any:
        if isinstance(f, str | os.PathLike):
            with open(f, 'rb') as file:
                return _read(file, Path(f), map_location)
        return _read(f, Path(str(getattr(f, 'name', 'a stream'))), map_location)

    torch.load = load


def _read(file: BinaryIO, path: Path, map_location: Any) -> Any:
    try:
        if path.suffix == '.safetensors':
            return _read_safetensors(path, map_location)
        sizes = _check_container(file, path)
        try:
            return _read_data(file, map_location, sizes)
        except UnsafeCheckpointError:
            raise
        except pickle.UnpicklingError as error:
            named = re.search(r'(?:GLOBAL|function) (\S.*?)(?:$| was not| whose|\. )', str(error), re.M)
            if not named:
                raise
            what = named[1]
        if not _trusting:
            raise UnsafeCheckpointError(
                f"checkpoint '{path}' holds more than tensors and plain data, and restoring it would run code from "
                f'the file ({what}); ask its author for a state dict or a safetensors file, or, if you trust whoever '
                'made it with all that you can do on this machine, let the tool run it with --trust-checkpoint.'
            )
        warning = f"--trust-checkpoint: '{path}' is unpickled without restriction and may run anything ({what})"
        print(f'WARNING: {warning}', file=sys.stderr, flush=True)
        file.seek(0)
        return _torch_load(file, map_location=map_location, weights_only=False)
    except (ImportError, UserError, PermissionError):
        raise
    except Exception as error:  # a damaged file makes the reader fail in any way
        raise _damaged(path, error) from error


def _read_data(file: BinaryIO, map_location: Any, sizes: dict[str, int]) -> Any:
    file.seek(0)
    if not _TORCH_READS_SAFELY:
        return _torch_load(file, map_location, unpickling(sizes), weights_only=False)
    with _only_our_globals():
        return _torch_load(file, map_location=map_location, weights_only=True)


@contextlib.contextmanager
def _only_our_globals() -> Iterator[None]:
    """Packages add names of their own to torch's list when they are imported; here it is ours alone."""
    serialization = torch.serialization
    others = serialization.get_safe_globals()
    serialization.clear_safe_globals()
    # A name in a pickle is MODULE.NAME, so that none can refer to what is listed without a dot.
    ours = [(value, name) for name, value in allowed_globals().items()]
    serialization.add_safe_globals([*ours, *((kind, kind.__name__.replace('.', '_')) for kind in allowed_types())])
    try:
        yield
    finally:
        serialization.clear_safe_globals()
        serialization.add_safe_globals(others)


def _check_container(file: BinaryIO, path: Path) -> dict[str, int]:
    """Refuses what torch hands on to other readers, and damage that only checksums show, which torch ignores.

    Returns:
        Bytes of each storage, by its key; empty for files in the format before torch 1.6, which are no archives.
    """
    if file.read(4) != b'PK\x03\x04':
        file.seek(0)
        if tarfile.is_tarfile(file):
            raise UserError(f"checkpoint '{path}' is a tar archive of torch 0.1; save it again with a newer torch.")
        return {}
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
        if len({record.filename for record in records}) < len(records):
            raise zipfile.BadZipFile('two entries have the same name')
        # torch.serialization.set_crc32_options(False) leaves all of them 0.
        if any(record.CRC for record in records) and (broken := archive.testzip()):
            raise zipfile.BadZipFile(f"the checksum of '{broken}' is wrong")
    file.seek(0)
    if 'constants.pkl' in torch._C.PyTorchFileReader(file).get_all_records():
        raise UserError(f"checkpoint '{path}' is a TorchScript program, not a state dict; save model.state_dict().")
    return {record.filename.rpartition('/data/')[2]: record.file_size for record in records}


def _read_safetensors(path: Path, map_location: Any) -> dict[str, Any]:
    try:
        from safetensors import safe_open
    except ImportError as error:
        raise UserError(
            f"'{path}' needs the package safetensors; install it with 'pip install safetensors'."
        ) from error
    with safe_open(path, framework='pt', device=str(map_location or 'cpu')) as file:
        return {'state_dict': {name: file.get_tensor(name) for name in file.keys()}, 'meta': file.metadata() or {}}


def _is_address(path: str | os.PathLike) -> bool:
    return str(path).startswith(('http://', 'https://'))


def _fetched(address: str) -> Path:
    """The file at an address, in the folder where torch.hub and MMEngine keep theirs."""
    path = Path(torch.hub.get_dir(), 'checkpoints', os.path.basename(address.partition('?')[0]))
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(address, str(path), progress=sys.stderr.isatty())
        except OSError as error:
            raise UserError(f"checkpoint '{address}' cannot be downloaded ({error}); check the address.") from error
    return path


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(
        f"checkpoint '{path}' is truncated or damaged ({type(error).__name__}: {_first_sentence(error)}); "
        'copy or download it again.'
    )


def _first_sentence(error: Exception) -> str:
    text = ' '.join(str(error).rpartition('WeightsUnpickler error: ')[2].partition('\n\n')[0].split())
    return text.split('. ')[0][:200].rstrip('.')
