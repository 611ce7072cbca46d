"""Weights that come with this package: ``mmatconv://NAME-xxxxxxxx.safetensors`` is a file of its folder ``weights``."""

import hashlib
from pathlib import Path

from mmatconv.errors import UserError

SCHEME = 'mmatconv://'
# A link to the project's folder in a checkout, a folder in an installed package.
FOLDER = Path(__file__).parents[1] / '.mim' / 'weights'


def find_published(address: str) -> Path:
    """The file behind an address, compared with the hash in its name.

    Args:
        address: ``mmatconv://NAME-xxxxxxxx.safetensors``, x the first digits of the file's sha256.

    Raises:
        UserError: There is no such file, or it has another hash.
    """
    name = address.removeprefix(SCHEME)
    files = {path.name: path for path in FOLDER.glob('*.safetensors')}
    if name not in files:
        raise UserError(f"there are no weights '{address}'; there are {', '.join(sorted(files)) or 'none'}.")
    expected = Path(name).stem.rpartition('-')[2]
    found = hashlib.sha256(files[name].read_bytes()).hexdigest()
    if not expected or not found.startswith(expected):
        raise UserError(
            f"weights '{files[name]}' are damaged: the sha256 begins with {found[:8]}, expected {expected}; install "
            'mmatconv again or take the file from its repository.'
        )
    return files[name]
