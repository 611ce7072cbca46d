"""Packs a folder of class folders, such as data/imagenet/train, into one LMDB, which the ImageNet configs read instead.

Example:
    python tools/dataset_tools/make_imagenet_lmdb.py data/imagenet/train data/imagenet/train.lmdb
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn

# The checkout this file lies in goes first, so that the command works with nothing installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, as for every other mistake; argparse would print the usage as well."""
        self.exit(2, f'error: {message}; see --help\n')


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = _Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path, help='folder with one folder of images for each class')
    parser.add_argument('target', type=Path, help='what to write, for example data/imagenet/train.lmdb')
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    args = parse_args(arguments)
    from rich.progress import track

    from mmatconv.datasets.lmdb_folder import write_lmdb
    from mmatconv.errors import UserError

    try:
        count = write_lmdb(args.folder, args.target, lambda images: track(images, f'{args.target}'))
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except OSError as error:
        reason = f"'{error.filename}': {error.strerror}" if error.filename else str(error)
        print(f'error: {reason}; mend this and call again', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('error: interrupted; call again to start anew', file=sys.stderr)
        return 130
    print(f"{count} images are written to '{args.target}'")
    return 0


if __name__ == '__main__':
    sys.exit(main())
