"""Packs class folders of images into one LMDB file, which ``lmdb_backend`` reads."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType

from mmatconv.datasets.lmdb_backend import SUFFIX, import_lmdb
from mmatconv.errors import UserError

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif')
BATCH = 512  # images in a transaction
PAGE = 4096  # LMDB's unit on disk; a value starts on a page of its own
MAX_KEY = 511  # bytes, LMDB's limit


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
