"""Writes the generated data set of shapes as COCO and in ADE20K's layout.

Example:
    python tools/dataset_tools/make_shapes.py data/shapes --train 400 --val 60 --size 192 --seed 0
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# The checkout this file lies in goes first, so that the command works with nothing installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        """One line, as for every other mistake; argparse would print the usage as well."""
        self.exit(2, f'error: {message}; see --help\n')


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = _Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('root', type=Path, help='folder to write to, for example data/shapes')
    parser.add_argument('--train', type=int, default=400, help='number of training images (default: 400)')
    parser.add_argument('--val', type=int, default=60, help='number of validation images (default: 60)')
    parser.add_argument('--size', type=int, default=192, help='side of the images in pixels (default: 192)')
    parser.add_argument('--seed', type=int, default=0, help='another seed gives another data set (default: 0)')
    parser.add_argument(
        '--overwrite', action='store_true', help='replace a data set that this command wrote with other settings'
    )
    parser.add_argument(
        '--preview', type=Path, metavar='FILE.png', help='also write a grid of images beside their masks'
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    args = parse_args(arguments)
    from mmatconv.errors import UserError

    try:
        run(args)
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except OSError as error:
        reason = f"'{error.filename}': {error.strerror}" if error.filename else str(error)
        print(f'error: cannot write {reason}; mend this or choose another folder', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('error: interrupted; call again to finish', file=sys.stderr)
        return 130
    return 0


def run(args: argparse.Namespace) -> None:
    import cv2

    from mmatconv.datasets import preview, write_shapes
    from mmatconv.errors import UserError

    if args.preview is not None and args.preview.suffix.lower() != '.png':
        raise UserError(f"--preview is '{args.preview}', expected a .png file; choose another name.")
    written = write_shapes(
        args.root,
        train=args.train,
        val=args.val,
        size=args.size,
        seed=args.seed,
        overwrite=args.overwrite,
        progress=show_progress,
    )
    state = 'written to' if written else 'already in'
    print(f"{args.train} + {args.val} images of {args.size} px are {state} '{args.root}'")
    if args.preview is not None:
        args.preview.parent.mkdir(parents=True, exist_ok=True)
        args.preview.write_bytes(cv2.imencode('.png', preview(args.root))[1].tobytes())
        print(f"preview: '{args.preview}'")


def show_progress(split: str, done: int, total: int) -> None:
    """A bar on a terminal, redrawn in place; one line for each split where the output goes to a file or a pipe."""
    if sys.stdout.isatty():
        filled = 30 * done // total
        end = '\n' if done == total else ''
        print(f'\r{split:>5} [{"#" * filled}{"." * (30 - filled)}] {done}/{total}', end=end, flush=True)
    elif done == total:
        print(f'{split}: {total} images', flush=True)


if __name__ == '__main__':
    sys.exit(main())
