"""How long the CPU is busy with a training step on a GPU, measured without one.

Every operation of torch runs on a CPU, on maps so small and with so few channels that the call is what costs; our
kernels are prepared for launch and stop before the driver. In a step our operators come from cold caches, which the
computation of torch's operations between them leaves on a CPU and would not beside a GPU; so they are also timed called
again in a row. What a training on a GPU sees lies between the two.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pkgutil import walk_packages
from statistics import median
from time import thread_time_ns

import torch

import mmatconv.ops
from mmatconv.analysis.benchmark.backbone_variants import variants
from mmatconv.analysis.benchmark.backbones import FAMILIES, MODELS_BY_NAME
from mmatconv.analysis.benchmark.case import DTYPES, Candidate, Setting
from mmatconv.analysis.benchmark.pretended_gpu import pretended_gpu, replaced
from mmatconv.analysis.benchmark.random_weights import randomize
from mmatconv.analysis.benchmark.runs import leaves
from mmatconv.ops.autograd_function import Function

# By name and direction of our autograd functions: calls and nanoseconds.
Clocks = dict[str, tuple[int, int]]
# Calls of which the fastest counts.
IN_A_ROW = 8


@dataclass(frozen=True)
class Operator:
    """One of our operators in a training step.

    Attributes:
        name: Of its autograd function.
        calls: Forward or backward, as the name says.
        seconds: For all of them together, in the median step.
        in_a_row: For all of them together, of each the fastest of some calls with the same arguments.
    """

    name: str
    calls: int
    seconds: float
    in_a_row: float


@dataclass(frozen=True)
class HostTime:
    """Of one candidate, in the median step.

    Attributes:
        step: Seconds for forward and backward.
        operators: Our own operators, part of it; with the operations of torch they call.
    """

    name: str
    step: float
    operators: Sequence[Operator]


def host_times(name: str, setting: Setting, repeats: int, warmup: int) -> list[HostTime]:
    """CPU time of forward and backward of a backbone's variants, in training mode under autocast.

    Args:
        name: As for level 'backbone'.
        setting: Batch, size, dtype and memory format. Python takes as long for every size, torch on a CPU does not.
        repeats: Steps of each, in turns.
        warmup: Steps before these.

    Returns:
        Of 'ours', 'released' and 'static'.
    """
    candidates = list(_narrow(name, setting))
    readings, found = {candidate.name: [] for candidate in candidates}, []
    with pretended_gpu():
        for candidate in candidates:
            candidate.function.train()
        with _clocks(1) as clocks:
            for i in range(warmup + repeats):
                for j in range(len(candidates)):
                    candidate = candidates[(i + j) % len(candidates)]
                    clocks.clear()
                    seconds = _step(candidate, DTYPES[setting.dtype])
                    if i >= warmup:
                        readings[candidate.name].append((seconds, dict(clocks)))
        with _clocks(IN_A_ROW) as clocks:
            for candidate in candidates:
                clocks.clear()
                _step(candidate, DTYPES[setting.dtype])
                found.append(_summary(candidate.name, readings[candidate.name], dict(clocks)))
    return found


def _narrow(name: str, setting: Setting) -> Iterator[Candidate]:
    """The variants with an eighth of the channels: weights as large as they are would cost more than the calls."""
    family, arch = MODELS_BY_NAME[name]
    kind = FAMILIES[family]
    settings = kind.arch_settings[arch]
    narrow = dict(settings, dims=tuple(max(dim // 8, 8) for dim in settings['dims']))
    return variants(lambda options: randomize(kind(narrow, **options)), lambda m: m, setting.random(3), setting)


def _summary(name: str, readings: Sequence[tuple[float, Clocks]], in_a_row: Clocks) -> HostTime:
    operators = [
        Operator(key, calls, median(clocks[key][1] for _, clocks in readings) / 1e9, in_a_row[key][1] / 1e9)
        for key, (calls, _) in in_a_row.items()
    ]
    return HostTime(name, median(seconds for seconds, _ in readings), operators)


def _step(candidate: Candidate, dtype: torch.dtype) -> float:
    start = thread_time_ns()
    # Not cuda_autocast: its mode of Python looks at each attribute of a tensor, which would be most of the time.
    with torch.autocast('cpu', dtype, enabled=dtype != torch.float32):
        outputs = leaves(candidate.function(*candidate.inputs))
    gradients = [torch.empty_like(x) for x in outputs]
    torch.autograd.backward(outputs, gradients)
    seconds = (thread_time_ns() - start) / 1e9
    candidate.function.zero_grad()
    return seconds


@contextmanager
def _clocks(repeats: int) -> Iterator[Clocks]:
    """Clocks of our autograd functions; nested ones count as the outer, and of ``repeats`` calls the fastest."""
    clocks: Clocks = {}
    running = False

    def clocked(key: str, function: Callable) -> Callable:
        def call(*args):
            nonlocal running
            if running:
                return function(*args)
            running, fastest = True, math.inf
            try:
                for _ in range(repeats):
                    start = thread_time_ns()
                    result = function(*args)
                    fastest = min(fastest, thread_time_ns() - start)
            finally:
                running = False
            calls, total = clocks.get(key, (0, 0))
            clocks[key] = calls + 1, total + fastest
            return result

        return call

    with ExitStack() as stack:
        for kind in _functions():
            entered = clocked(f'{kind.__name__}, forward', kind.apply)
            stack.enter_context(replaced(kind, 'apply', entered))
            left = staticmethod(clocked(f'{kind.__name__}, backward', kind.backward))
            stack.enter_context(replaced(kind, 'backward', left))
        yield clocks


def _functions() -> Iterator[type]:
    """The autograd functions that stand before our kernels."""
    for module in walk_packages(mmatconv.ops.__path__, 'mmatconv.ops.'):
        if 'triton' not in module.name and '.cpu' not in module.name:
            import_module(module.name)
    for kind in (*torch.autograd.Function.__subclasses__(), *Function.__subclasses__()):
        if 'backward' in vars(kind) and kind.__module__.startswith('mmatconv.ops.') and '.cpu.' not in kind.__module__:
            yield kind
