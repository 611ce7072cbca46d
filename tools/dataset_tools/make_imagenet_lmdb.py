"""Packs a folder of class folders, such as data/imagenet/train, into one LMDB, which the ImageNet configs read instead.

Example:
    python tools/dataset_tools/make_imagenet_lmdb.py data/imagenet/train data/imagenet/train.lmdb
"""

import sys
from pathlib import Path

# The project need not be installed to use its tools.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmatconv.engine.cli import report
from mmatconv.engine.cli.parser import Parser


def main(arguments: list[str] | None = None) -> int:
    return report.run(lambda progress: run(arguments, progress))


def run(arguments: list[str] | None, progress: report.Progress) -> None:
    parser = Parser('make_imagenet_lmdb.py', description=__doc__.splitlines()[0])
    parser.add_argument('folder', type=Path, help='folder with one folder of images for each class')
    parser.add_argument('target', type=Path, help='what to write, for example data/imagenet/train.lmdb')
    args = parser.parse_args(arguments)
    progress.advice = 'call again to start anew'

    from mmatconv.datasets.lmdb_writer import write_lmdb
    from mmatconv.engine.console.bar import with_bar

    count = write_lmdb(args.folder, args.target, lambda images: with_bar(images, str(args.target)))
    print(f"{count} images are written to '{args.target}'")


if __name__ == '__main__':
    sys.exit(main())
