"""A folder of class folders in one LMDB file: keys ``class/image.JPEG``, values the bytes of the image files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from mmengine.fileio import BaseStorageBackend, register_backend

from mmatconv.errors import UserError

PREFIX = 'lmdb'
SUFFIX = '.lmdb'
EXTENSIONS = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif')
BATCH = 512  # images in a transaction
PAGE = 4096  # LMDB's unit on disk; a value starts on a page of its own
MAX_KEY = 511  # bytes, LMDB's limit


@register_backend('mmatconv.lmdb_folder', prefixes=PREFIX, force=True)
class LmdbFolderBackend(BaseStorageBackend):
    """Reads ``lmdb://PATH.lmdb/CLASS/IMAGE`` for everything that goes through MMEngine's file backends.

    MMEngine's own LMDB backend keeps an environment open across ``fork``, which LMDB forbids, and lists no folders.
    Here each process opens the environment itself when it first reads.

    Raises:
        UserError: The package lmdb is missing, or the file is no LMDB of class folders.
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
        UserError: The package lmdb is missing, or the file is no LMDB.
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


def find_images(folder: str | os.PathLike) -> list[tuple[str, int]]:
    """The images below the class folders of `folder` as (key, bytes), in the order of the keys' bytes.

    Raises:
        UserError: There are no class folders, one has no image, or a name is too long for a key.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(
            f"'{folder}' is not a folder; name the one with the class folders, such as data/imagenet/train."
        )
    classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    if not classes:
        raise UserError(f"'{folder}' has no class folders; name the one with n01440764 and the others in it.")
    images = []
    for name in classes:
        found = list(_images_below(folder, name))
        if not found:
            raise UserError(
                f"class folder '{folder / name}' has no image ({', '.join(EXTENSIONS)}), and an LMDB would lose the "
                'class; remove the folder or fill it.'
            )
        images += found
    longest = max(images, key=lambda image: len(image[0].encode()))[0]
    if len(longest.encode()) > MAX_KEY:
        raise UserError(f"'{longest}' has {len(longest.encode())} bytes, but a key may have {MAX_KEY}; rename it.")
    return sorted(images, key=lambda image: image[0].encode())


def _images_below(folder: Path, name: str) -> Iterator[tuple[str, int]]:
    for entry in os.scandir(folder / name):
        key = f'{name}/{entry.name}'
        if entry.is_dir():
            yield from _images_below(folder, key)
        elif entry.name.lower().endswith(EXTENSIONS):
            yield key, entry.stat().st_size


def write_lmdb(
    folder: str | os.PathLike,
    target: str | os.PathLike,
    progress: Callable[[list[tuple[str, int]]], Iterable[tuple[str, int]]] = iter,
) -> int:
    """Writes the images below the class folders of `folder` to an LMDB.

    Args:
        folder: Class folders of images, as ``data/imagenet/train``.
        target: What to write, ending in .lmdb and not there yet; it gets its name when it is complete.
        progress: Goes through the images, and shows how far it is. Default: silently.

    Returns:
        The number of images.

    Raises:
        UserError: `target` exists or is ill-named, the disk is too small, or `folder` cannot be read as class folders.
    """
    target = Path(target)
    partial = target.with_name(f'{target.name}.partial')
    if target.suffix != SUFFIX:
        raise UserError(f"'{target}' must end in {SUFFIX}; call it {target.with_suffix(SUFFIX).name}.")
    if target.exists():
        raise UserError(f"'{target}' exists already; delete it or choose another name.")
    if partial.exists():
        raise UserError(f"'{partial}' is left of a run that was cut off, or another run is writing it; delete it.")
    lmdb = import_lmdb(target)
    images = find_images(folder)
    size = sum(-(-(count + 16) // PAGE) * PAGE + 2 * len(key.encode()) + 64 for key, count in images)
    target.parent.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(target.parent).free) < size:
        raise UserError(f"'{target}' needs {size / 2**30:.1f} GiB, but only {free / 2**30:.1f} GiB are free there.")
    try:
        _fill(lmdb, Path(folder), partial, progress(images), map_size=2 * size + 2**24)
        os.rename(partial, target)
    except lmdb.Error as error:
        raise UserError(f"'{target}' could not be written ({error}); check the disk and call again.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return len(images)


def _fill(lmdb: ModuleType, folder: Path, partial: Path, images: Iterable[tuple[str, int]], map_size: int) -> None:
    with lmdb.open(str(partial), map_size=map_size, meminit=False, sync=False) as environment:
        transaction = environment.begin(write=True)
        try:
            for number, (key, _) in enumerate(images, 1):
                # Keys come in order, so that each goes behind the last.
                transaction.put(key.encode(), (folder / key).read_bytes(), append=True)
                if number % BATCH == 0:
                    transaction.commit()
                    transaction = environment.begin(write=True)
            transaction.commit()
        except BaseException:
            transaction.abort()
            raise
        environment.sync(True)
