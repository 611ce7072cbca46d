"""Whether a run can write where it is told to, before it computes anything."""

import os
import tempfile

from mmatconv.errors import UserError


def check_work_dir(folder: str) -> None:
    """Makes the folder and writes to it, as the run will do.

    Raises:
        UserError: it cannot be made or written.
    """
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix='.writable-') as file:
            file.write(b'x')
    except OSError as error:
        raise UserError(
            f"work dir '{folder}' cannot be written ({error.strerror}); choose another with --work-dir"
        ) from error


def check_out_file(file: str) -> None:
    """Checks the file for ``--out``: predictions take long to make, so nothing is overwritten.

    Raises:
        UserError: it exists, its folder cannot be written, or it does not end in .pkl or .pickle.
    """
    if not file.endswith(('.pkl', '.pickle')):
        raise UserError(f"--out '{file}' must end in .pkl or .pickle")
    if os.path.exists(file):
        raise UserError(f"--out '{file}' exists already; delete it or choose another name")
    _check_folder('--out', os.path.dirname(file) or '.')


def check_show_dir(folder: str) -> None:
    """Checks the folder for ``--show-dir``.

    Raises:
        UserError: it cannot be made or written.
    """
    _check_folder('--show-dir', folder)


def _check_folder(option: str, folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix='.writable-'):
            pass
    except OSError as error:
        raise UserError(f"{option}: folder '{folder}' cannot be written ({error.strerror}); choose another") from error
