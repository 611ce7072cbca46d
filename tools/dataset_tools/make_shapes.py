"""Writes the generated data set of shapes as COCO and in ADE20K's layout.

Example:
    python tools/dataset_tools/make_shapes.py data/shapes --train 400 --val 60 --size 192 --seed 0
"""

import sys
from pathlib import Path

# The project need not be installed to use its tools.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmatconv.engine.cli import report
from mmatconv.engine.cli.convert_dataset import show_progress
from mmatconv.engine.cli.parser import Parser
from mmatconv.errors import UserError


def main(arguments: list[str] | None = None) -> int:
    return report.run(lambda progress: run(arguments, progress))


def run(arguments: list[str] | None, progress: report.Progress) -> None:
    parser = Parser('make_shapes.py', description=__doc__.splitlines()[0])
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
    args = parser.parse_args(arguments)
    progress.advice = 'call again to finish'

    import cv2

    from mmatconv.datasets import preview, write_shapes

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


if __name__ == '__main__':
    sys.exit(main())
