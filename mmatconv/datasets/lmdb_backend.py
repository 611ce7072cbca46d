"""Reads class folders of images from one LMDB file: keys ``class/image.JPEG``, values the bytes of the files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from mmengine.fileio import BaseStorageBackend, register_backend

from mmatconv.errors import UserError

PREFIX = 'lmdb'
SUFFIX = '.lmdb'


@register_backend('mmatconv.lmdb_folder', prefixes=PREFIX, force=True)
class LmdbFolderBackend(BaseStorageBackend):
    """Reads ``lmdb://PATH.lmdb/CLASS/IMAGE`` for everything that goes through MMEngine's file backends.

    MMEngine's own LMDB backend keeps an environment open across ``fork``, which LMDB forbids, and lists no folders.
    Here each process opens the environment itself when it first reads.

    Raises:
        UserError: The package lmdb is missing, or the file is not an LMDB of class folders.
    """

    def get(self, filepath: str | os.PathLike) -> bytes:
        """The bytes of a file.

        Raises:
            FileNotFoundError: There is no such key.
        """
        database, key = split_uri(filepath)
        with open_environment(database).begin() as transaction:
            value = transaction.get(key.encode())
        if value is None:
            raise FileNotFoundError(f"'{database}' has no key '{key}'")
        return value

    def get_text(self, filepath: str | os.PathLike, encoding: str = 'utf-8') -> str:
        """The text of a file."""
        return self.get(filepath).decode(encoding)

    def join_path(self, filepath: str | os.PathLike, *filepaths: str | os.PathLike) -> str:
        """Paths joined by '/'."""
        return '/'.join([str(filepath).rstrip('/'), *map(str, filepaths)])

    def list_dir_or_file(
        self, dir_path: str | os.PathLike, list_dir: bool = True, list_file: bool = True, recursive: bool = False
    ) -> Iterator[str]:
        """What lies below a folder, in the order of the keys, relative to it.

        Only the two listings that find the classes and their images are here.

        Args:
            dir_path: ``lmdb://PATH.lmdb`` or a folder in it.
            list_dir: With ``recursive=False``, the folders.
            list_file: With ``recursive=True``, the files at any depth.
            recursive: Which of the two.
        """
        database, folder = split_uri(dir_path)
        if list_dir == list_file or recursive != list_file:
            raise NotImplementedError('an LMDB lists the folders of a folder, or all files below it')
        start = f'{folder}/'.encode() if folder else b''
        with open_environment(database).begin() as transaction, transaction.cursor() as cursor:
            found = cursor.set_range(start) if start else cursor.first()
            while found and cursor.key().startswith(start):
                name = cursor.key()[len(start) :]
                if list_file:
                    yield name.decode()
                    found = cursor.next()
                elif b'/' in name:
                    name = name.split(b'/')[0]
                    yield name.decode()
                    # '0' is the character after '/': the first key behind those of this folder.
                    found = cursor.set_range(start + name + b'0')
                else:
                    raise UserError(
                        f"'{database}' has the key '{cursor.key().decode(errors='replace')}', expected "
                        'class/image.JPEG; write it with tools/dataset_tools/make_imagenet_lmdb.py.'
                    )


_environments: dict[str, Any] = {}
_owner = os.getpid()


def open_environment(database: str) -> Any:
    """The open environment of an LMDB, one for each process: LMDB allows neither two, nor one from before a fork.

    Raises:
        UserError: The package lmdb is missing, or the file is not an LMDB.
    """
    global _owner
    if _owner != os.getpid():
        _environments.clear()
        _owner = os.getpid()
    path = os.path.realpath(database)
    if path not in _environments:
        lmdb = import_lmdb(database)
        try:
            _environments[path] = lmdb.open(
                path, subdir=os.path.isdir(path), readonly=True, lock=False, readahead=False
            )
        except lmdb.Error as error:
            raise UserError(f"'{database}' cannot be opened as an LMDB ({error}); write it again.") from error
    return _environments[path]


def uri(database: str | os.PathLike) -> str:
    """``PATH.lmdb`` as ``lmdb://PATH.lmdb``, which MMEngine's file functions read."""
    return f'{PREFIX}://{database}'


def split_uri(path: str | os.PathLike) -> tuple[str, str]:
    """``lmdb://PATH.lmdb/KEY`` as (PATH.lmdb, KEY), the key empty for the root."""
    head, suffix, key = f'{str(path).removeprefix(f"{PREFIX}://")}/'.rpartition(f'{SUFFIX}/')
    return head + suffix.rstrip('/'), key.rstrip('/')


def import_lmdb(why: str | os.PathLike) -> ModuleType:
    """The package lmdb.

    Raises:
        UserError: It is not installed; `why` is the file that needs it.
    """
    try:
        import lmdb
    except ImportError as error:
        raise UserError(f"'{why}' needs the package lmdb; install it with 'pip install lmdb'.") from error
    return lmdb
