"""Reading checkpoint files as data, never as code.

A checkpoint is a ``.safetensors`` file, or a torch file whose pickle may name tensors and what allowed.py lists. There
is no fallback to unrestricted unpickling; :func:`trust_checkpoints` is the one way to it.
"""

import os
import pickle
import re
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from mmatconv.checkpoint.download import download, is_address
from mmatconv.checkpoint.published import SCHEME, find_published
from mmatconv.checkpoint.weights_only import load_weights_only
from mmatconv.errors import UserError

# As it was before mmatconv.openmmlab.torch_load replaces it.
_torch_load = torch.load
_trusting = False


class UnsafeCheckpointError(UserError):
    """Restoring a checkpoint would run code from the file."""


def read_checkpoint(path: str | os.PathLike, map_location: Any = 'cpu') -> dict[str, Any]:
    """Read a checkpoint file without executing anything it carries.

    Args:
        path: A ``.pth``, ``.pt`` or ``.safetensors`` file, an http(s) address of one, which is downloaded once to
            torch.hub's folder, by one process for all of this machine, or the ``mmatconv://`` address of weights that
            come with this package.
        map_location: Where its tensors go, as for ``torch.load``. Default: 'cpu'.

    Returns:
        The dictionary in the file; a safetensors file becomes ``{'state_dict': tensors, 'meta': metadata}``.

    Raises:
        UserError: The file is missing, cannot be read, is truncated or damaged, holds objects that only
            unrestricted unpickling would restore, or holds no dictionary.
    """
    if str(path).startswith(SCHEME):
        path = find_published(str(path))
    path = download(str(path)) if is_address(path) else Path(path).expanduser()
    if not path.exists():
        raise UserError(f"checkpoint '{path}' does not exist; check the path.")
    if not path.is_file():
        raise UserError(f"checkpoint '{path}' is a directory; name a file in it.")
    try:
        with path.open('rb') as file:
            checkpoint = read_stream(file, path, map_location)
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


def read_stream(
    file: BinaryIO, path: Path, map_location: Any = None, mmap: bool | None = None, pickle_module: Any = None
) -> Any:
    """Read what ``torch.load`` would, from where `file` stands.

    Args:
        file: Opened for reading in binary mode; it can be sought in.
        path: Its name, for messages; with `mmap`, and where it ends in ``.safetensors``, the file itself.
        map_location: As for ``torch.load``. Default: None.
        mmap: As for ``torch.load``: tensors stay on the disk until they are used. Default: None, no.
        pickle_module: What another caller would unpickle with; used for a trusted file only. Default: None.

    Raises:
        UserError: As :func:`read_checkpoint`.
    """
    start = file.tell()
    source: Any = str(path) if mmap else file
    options = {'map_location': map_location, **({'mmap': True} if mmap else {})}
    try:
        if path.suffix == '.safetensors':
            return _read_safetensors(path, map_location)
        _check_container(file, path)
        file.seek(start)
        try:
            return load_weights_only(_torch_load, source, **options)
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
        file.seek(start)
        return _torch_load(source, pickle_module=pickle_module or pickle, weights_only=False, **options)
    except (ImportError, UserError, PermissionError):
        raise
    except Exception as error:  # a damaged file makes the reader fail in any way
        raise _damaged(path, error) from error


def _check_container(file: BinaryIO, path: Path) -> None:
    """Refuse what torch hands on to other readers, and damage that only checksums show, which torch ignores."""
    start = file.tell()
    archived = file.read(4) == b'PK\x03\x04'
    file.seek(start)
    if not archived:  # the format before torch 1.6
        if start == 0 and tarfile.is_tarfile(file):  # torch reads none from the middle of a stream
            raise UserError(f"checkpoint '{path}' is a tar archive of torch 0.1; save it again with a newer torch.")
        return
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
        if len({record.filename for record in records}) < len(records):
            raise zipfile.BadZipFile('two entries have the same name')
        # torch.serialization.set_crc32_options(False) leaves all of them 0.
        if any(record.CRC for record in records) and (broken := archive.testzip()):
            raise zipfile.BadZipFile(f"the checksum of '{broken}' is wrong")
    file.seek(start)
    if 'constants.pkl' in torch._C.PyTorchFileReader(file).get_all_records():
        raise UserError(f"checkpoint '{path}' is a TorchScript program, not a state dict; save model.state_dict().")


def _read_safetensors(path: Path, map_location: Any) -> dict[str, Any]:
    try:
        from safetensors import safe_open
    except ImportError as error:
        raise UserError(
            f"'{path}' needs the package safetensors; install it with 'pip install safetensors'."
        ) from error
    with safe_open(path, framework='pt', device=str(map_location or 'cpu')) as file:
        return {'state_dict': {name: file.get_tensor(name) for name in file.keys()}, 'meta': file.metadata() or {}}


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(
        f"checkpoint '{path}' is truncated or damaged ({type(error).__name__}: {_first_sentence(error)}); "
        'copy or download it again.'
    )


def _first_sentence(error: Exception) -> str:
    text = ' '.join(str(error).rpartition('WeightsUnpickler error: ')[2].partition('\n\n')[0].split())
    return text.split('. ')[0][:200].rstrip('.')
