"""Stage 9: where two training steps spend the GPU's time, and for how much of it the GPU is busy."""

from collections import Counter

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from mmatconv.analysis.benchmark.backbone_variants import RELEASED
from mmatconv.analysis.benchmark.runs import Run
from mmatconv.analysis.gpu_check.record import Record
from mmatconv.analysis.gpu_check.step_times import attnet_case
from mmatconv.analysis.gpu_check.target import Target

STEPS = 2
ROWS = 15
NAME_LENGTH = 90


def run(record: Record, target: Target) -> None:
    if not target.on_gpu:
        record.needs_gpu('profile of two steps')
        return
    case = attnet_case('step', 'bfloat16', target)
    for candidate in case.candidates:
        if candidate.name in ('ours', RELEASED):
            step = Run(candidate, case)
            record.check(f'profile of {STEPS} steps, {candidate.name}', lambda s=step: profile_of(record, s))


def profile_of(record: Record, step: Run) -> str:
    for _ in range(3):
        step()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as prof:
        for _ in range(STEPS):
            step()
        torch.cuda.synchronize()
    events = [event for event in prof.events() if event.device_type == DeviceType.CUDA]
    time: Counter = Counter()
    calls: Counter = Counter()
    for event in events:
        time[event.name] += event.time_range.elapsed_us()
        calls[event.name] += 1
    total = sum(time.values())
    span = max(e.time_range.end for e in events) - min(e.time_range.start for e in events)
    rows = [
        (f'{us / STEPS / 1e3:.3f}', f'{us / total:.1%}', calls[name] // STEPS, name[:NAME_LENGTH])
        for name, us in time.most_common(ROWS)
    ]
    record.table('kernels of a step', ('ms', 'share', 'calls', 'kernel'), rows)
    launches = sum(calls.values()) // STEPS
    return f'{launches} launches, {total / STEPS / 1e3:.2f} ms of kernels a step, the GPU is busy {total / span:.0%}'
