"""Writes small pictures of one generated shape each, in a folder for each class, for configs/sit.

Example:
    python tools/dataset_tools/make_one_shapes.py data/one_shapes
"""

import sys
from pathlib import Path

# The project need not be installed to use its tools.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmatconv.engine.cli import report
from mmatconv.engine.cli.convert_dataset import show_progress
from mmatconv.engine.cli.parser import Parser


def main(progress: report.Progress) -> None:
    parser = Parser('make_one_shapes.py', description=__doc__.splitlines()[0])
    parser.add_argument('target', type=Path, help='folder to write; must not exist or be empty')
    parser.add_argument('--count', type=int, default=1000, help='images of each class (default: 1000)')
    parser.add_argument('--size', type=int, default=16, help='side of the images in pixels (default: 16)')
    parser.add_argument('--seed', type=int, default=0, help='another seed gives other pictures (default: 0)')
    args = parser.parse_args()

    from mmatconv.datasets.shapes.one_shape import write_one_shapes

    write_one_shapes(args.target, args.count, args.size, args.seed, show_progress)
    print(f"'{args.target}' is written: {args.count} images of {args.size} px for each class")


if __name__ == '__main__':
    sys.exit(report.run(main))
