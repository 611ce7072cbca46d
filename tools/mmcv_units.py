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
    # A type `Point` or a function `divideUP` of its own.
    {
        'cuda/box_iou_quadri_cuda.cu',
        'cuda/box_iou_rotated_cuda.cu',
        'cuda/carafe_cuda.cu',
        'cuda/convex_iou.cu',
        'cuda/iou3d_cuda.cu',
        'cuda/min_area_polygons.cu',
        'cuda/nms_quadri_cuda.cu',
        'cuda/nms_rotated_cuda.cu',
    },
    # `threadsPerBlock`; iou3d_cuda.cu includes nms_cuda's header.
    {
        'cuda/iou3d_cuda.cu',
        'cuda/line_nms_cuda.cu',
        'cuda/nms_cuda.cu',
        'cuda/nms_quadri_cuda.cu',
        'cuda/nms_rotated_cuda.cu',
    },
    # `Loc2Index`
    {'cuda/carafe_cuda.cu', 'cuda/carafe_naive_cuda.cu'},
    # `lidar_to_local_coords`
    {'cuda/points_in_boxes_cuda.cu', 'cuda/roiaware_pool3d_cuda.cu', 'cuda/roipoint_pool3d_cuda.cu'},
]
# Nothing may follow these in a unit: psamask.cpp defines macros named `min` and `max`, and fused_spconv_ops_cuda.cu
# uses templates that sparse_reordering.cu specialises.
LAST = {'cpu/psamask.cpp', 'cuda/fused_spconv_ops_cuda.cu'}
# The bindings take three times as long as other files of their size.
WEIGHT = {'pybind.cpp': 3}


def divide(sizes: dict[str, int], count: int) -> list[list[str]]:
    """Divides files into `count` lists, or a few more, that take similarly long and keep clashing files apart."""
    costs = {name: size * WEIGHT.get(name, 1) for name, size in sizes.items()}
    units: list[list[str]] = [[] for _ in range(count)]
    for name in sorted(costs, key=lambda name: (-costs[name], name)):
        rivals = set().union(*(group for group in CLASHING if name in group))
        allowed = [unit for unit in units if rivals.isdisjoint(unit)]
        if not allowed:
            units.append([])
            allowed = units[-1:]
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
