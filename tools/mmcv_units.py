#!/usr/bin/env python
"""Gathers mmcv's sources into a few translation units: torch's headers are then parsed a few times instead of 78 times.

    python tools/mmcv_units.py SOURCE [--cuda]

SOURCE is an unpacked mmcv. Its setup.py compiles what it finds in `csrc/pytorch`, `cpu` and `cuda`; each of these
files moves to a folder beside them, where setup.py does not look, and is included by a `unit_N.cpp` or `unit_N.cu`.
"""

import argparse
import os
from pathlib import Path

CPP_UNITS = 4
CUDA_UNITS = 8
# The files of one group define the same templates or macros with different contents: at most one of them in each unit.
CLASHING = [
    {'cpu/bezier_align.cpp', 'cpu/roi_align.cpp', 'cpu/roi_align_rotated.cpp', 'cpu/rotated_feature_align.cpp'},
]
# These define macros named `min` and `max`: nothing may follow them in a unit.
LAST = {'cpu/psamask.cpp'}
# The bindings take three times as long as other files of their size.
WEIGHT = {'pybind.cpp': 3}


def divide(sizes: dict[str, int], count: int) -> list[list[str]]:
    """Divides files into `count` lists that take similarly long to compile and keep clashing files apart."""
    costs = {name: size * WEIGHT.get(name, 1) for name, size in sizes.items()}
    units: list[list[str]] = [[] for _ in range(count)]
    for name in sorted(costs, key=lambda name: (-costs[name], name)):
        rivals = set().union(*(group for group in CLASHING if name in group))
        allowed = [unit for unit in units if rivals.isdisjoint(unit)]
        min(allowed, key=lambda unit: sum(costs[member] for member in unit)).append(name)
    return [sorted(unit, key=lambda name: (name in LAST, name)) for unit in units if unit]


def gather(folder: Path, patterns: list[str], count: int) -> None:
    files = {path.relative_to(folder).as_posix(): path for pattern in patterns for path in folder.glob(pattern)}
    units = divide({name: path.stat().st_size for name, path in files.items()}, count)
    moved = {}
    for name, path in files.items():
        # Not one level deeper: some files include '../spconv_utils.h'.
        home = folder / f'gathered_{Path(name).parent.name or "main"}'
        home.mkdir(exist_ok=True)
        moved[name] = path.rename(home / path.name)
    # Where the first pattern points to, setup.py looks.
    home = (folder / patterns[0]).parent
    for number, unit in enumerate(units, start=1):
        includes = [f'#include "{os.path.relpath(moved[name], home)}"\n' for name in unit]
        (home / f'unit_{number}{moved[unit[0]].suffix}').write_text(''.join(includes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', type=Path, help='folder of an unpacked mmcv')
    parser.add_argument('--cuda', action='store_true', help='gather the CUDA sources as well')
    args = parser.parse_args()
    folder = args.source / 'mmcv' / 'ops' / 'csrc' / 'pytorch'
    gather(folder, ['*.cpp', 'cpu/*.cpp'], CPP_UNITS)
    if args.cuda:
        gather(folder, ['cuda/*.cu'], CUDA_UNITS)


if __name__ == '__main__':
    main()
