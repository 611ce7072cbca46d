"""The stages by name, in their order, and the seconds each may take."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """A part of the check that runs in a process of its own.

    Attributes:
        module: Its module, which has ``run(record, target)``.
        deadline: Seconds after which it is ended.
        forced: Every operator runs on the Triton kernels or the check fails.
    """

    module: str
    deadline: int
    forced: bool = False


HERE = 'mmatconv.analysis.gpu_check'
# 565 seconds in all: a command on a lent machine often has ten minutes.
STAGES = {
    'machine': Stage(f'{HERE}.machine', 35),
    'kernels': Stage(f'{HERE}.kernels', 75, forced=True),
    'layers': Stage(f'{HERE}.layers', 60, forced=True),
    'backbones': Stage(f'{HERE}.backbones', 80, forced=True),
    'training': Stage(f'{HERE}.training', 60),
    'compiled': Stage(f'{HERE}.compiled', 75),
    'operator-times': Stage(f'{HERE}.operator_times', 60),
    'step-times': Stage(f'{HERE}.step_times', 80),
    'profile': Stage(f'{HERE}.kernel_profile', 40),
}
# Those of --detectors, which needs mmcv with its ops and mmdet.
DETECTOR_STAGES = {
    'detector-ops': Stage(f'{HERE}.detector_ops', 60),
    'detector-training': Stage(f'{HERE}.detector_training', 400),
    'detector-times': Stage(f'{HERE}.detector_times', 105),
}
