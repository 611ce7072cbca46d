"""Stage 1: what this machine is, and how fast it copies and multiplies."""

from collections.abc import Callable

import torch

from mmatconv.analysis.benchmark import machine
from mmatconv.analysis.benchmark.timing import interleave, stopwatch
from mmatconv.analysis.gpu_check.record import Record
from mmatconv.analysis.gpu_check.target import Target
from mmatconv.ops import dynamic_depthwise_conv2d


def run(record: Record, target: Target) -> None:
    about = {**machine.machine(target.device), **machine.versions()}
    if target.on_gpu:
        properties = torch.cuda.get_device_properties(0)
        major, minor = torch.cuda.get_device_capability()
        about.update(
            capability=f'{major}.{minor}',
            multiprocessors=properties.multi_processor_count,
            memory=f'{properties.total_memory / 2**30:.0f} GiB',
        )
    record.table('machine', ('what', 'value'), list(about.items()))
    record.check('a kernel of ours compiles and runs', lambda: one_kernel(target))
    record.check('copy', lambda: copy_speed(target))
    record.check('product in bfloat16', lambda: product_speed(target))


def one_kernel(target: Target) -> str:
    x = target.random(1, 4, 8, 8)
    kernel = torch.zeros(1, 4, 3, 3, device=target.device)
    kernel[..., 1, 1] = 1
    torch.testing.assert_close(dynamic_depthwise_conv2d(x, kernel, path='triton'), x, rtol=0, atol=0)
    return 'on the GPU' if target.on_gpu else 'in the interpreter'


def copy_speed(target: Target) -> str:
    x = torch.empty((1 << 31) if target.on_gpu else (1 << 22), dtype=torch.uint8, device=target.device)
    y = torch.empty_like(x)
    return f'{2 * x.numel() / _seconds(lambda: y.copy_(x), target) / 1e9:.0f} GB/s, read and written'


def product_speed(target: Target) -> str:
    side = 8192 if target.on_gpu else 256
    a, b = (target.random(side, side, dtype=torch.bfloat16, seed=i) for i in range(2))
    return f'{2 * side**3 / _seconds(lambda: a @ b, target) / 1e12:.3g} TFLOP/s, {side} x {side} x {side}'


def _seconds(call: Callable[[], object], target: Target) -> float:
    return interleave({'': call}, 5, 3, stopwatch(target.device))[''].median
