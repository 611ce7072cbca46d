"""One stage, in a process of its own: ``python -m mmatconv.analysis.gpu_check.worker STAGE DEVICE FILE.json``."""

import importlib
import sys
import warnings
from pathlib import Path

from mmatconv.analysis.gpu_check.record import Record
from mmatconv.analysis.gpu_check.stages import DETECTOR_STAGES, STAGES
from mmatconv.analysis.gpu_check.target import Target
from mmatconv.ops.paths import NAMES


def main(stage: str, device: str, file: str) -> None:
    # What falls back to torch would be measured under our name.
    for name in NAMES.values():
        warnings.filterwarnings('error', message=f'The Triton kernels of {name} cannot run')
    target = Target(device)
    record = Record(Path(file), target.synchronize)
    importlib.import_module({**STAGES, **DETECTOR_STAGES}[stage].module).run(record, target)
    record.finish()


if __name__ == '__main__':
    main(*sys.argv[1:])
