#!/usr/bin/env python
"""Checks and times mmatconv on a GPU in less than ten minutes. docs/gpu.md says what it does.

Example:
    python tools/gpu_check.py --out gpu_results
    python tools/gpu_check.py --out gpu_results_detectors --detectors
    python tools/gpu_check.py --out cpu_results --cpu
"""

import argparse
import sys
from pathlib import Path

# The project need not be installed to use its tools.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmatconv.analysis.gpu_check.run import run
from mmatconv.analysis.gpu_check.stages import DETECTOR_STAGES, STAGES
from mmatconv.errors import UserError


def main() -> int:
    """0 if nothing failed, 1 if something did, 2 for wrong options."""
    # Not the parser of the other tools, which needs MMEngine: this one runs where there is torch alone.
    parser = argparse.ArgumentParser('gpu_check.py', description=__doc__.splitlines()[0])
    add = parser.add_argument
    add('--out', metavar='FOLDER', type=Path, required=True, help='results go here: a new or an empty folder')
    add('--stages', nargs='+', metavar='NAME', help=f'only these, of {", ".join((*STAGES, *DETECTOR_STAGES))}')
    add('--detectors', action='store_true', help=f'with mmcv and mmdet instead: {", ".join(DETECTOR_STAGES)}')
    add('--cpu', action='store_true', help="what a CPU can run, in small and in Triton's interpreter")
    args = parser.parse_args()
    try:
        return int(run(args.out, args.stages, args.detectors, args.cpu) > 0)
    except UserError as error:
        print(f'gpu_check.py: error: {error}', file=sys.stderr)
        return 2


if __name__ == '__main__':
    sys.exit(main())
