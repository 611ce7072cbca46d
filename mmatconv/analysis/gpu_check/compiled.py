"""Stage 6: torch.compile with few graphs for all sizes: values, gradients, time."""

import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from mmatconv.analysis.benchmark.agreement import TOLERANCE, errors, without_tf32
from mmatconv.analysis.benchmark.random_weights import randomize
from mmatconv.analysis.benchmark.timing import interleave, stopwatch
from mmatconv.analysis.gpu_check.agreement import assert_allowed
from mmatconv.analysis.gpu_check.agreement import run as outputs_and_gradients
from mmatconv.analysis.gpu_check.backbones import backbones
from mmatconv.analysis.gpu_check.record import Disagreement, Record
from mmatconv.analysis.gpu_check.target import Target

SIZES = [(2, 3, 160, 224), (3, 3, 192, 128), (4, 3, 130, 190)]
SIZES_ON_CPU = [(2, 3, 40, 36), (3, 3, 44, 50), (4, 3, 33, 61)]
# The first sizes may happen to be in a relation that others are not in.
MOST_GRAPHS = 2


def run(record: Record, target: Target) -> None:
    # Inductor writes C++ on a CPU, for minutes; what it is handed is the same.
    backend = 'inductor' if target.on_gpu else 'aot_eager'
    sizes = SIZES if target.on_gpu else SIZES_ON_CPU
    model = randomize(backbones(target)['AttNet']()).to(target.device)
    counter = CompileCounterWithBackend(backend)
    # Floats as inputs of the graph make torch trace the first one twice, which only takes time.
    torch._dynamo.config.specialize_float = True
    compiled = torch.compile(model, dynamic=True, fullgraph=True, backend=counter)
    inputs = [target.random(*size, memory_format='channels_last') for size in sizes]
    for x in inputs:
        record.check(f'compiled by {backend}, {tuple(x.shape)}', lambda x=x: agree(compiled, model, x))
    record.check(f'at most {MOST_GRAPHS} graphs serve all sizes', lambda: few_graphs(counter))
    if not target.on_gpu:
        record.needs_gpu('compiled and eager, times')
        return
    record.check('compiled and eager, times', lambda: times(record, compiled, model, inputs[0], target))


def agree(compiled: nn.Module, model: nn.Module, x: Tensor) -> str:
    with without_tf32():
        expected = outputs_and_gradients(model, x)
        model.zero_grad()
        found = outputs_and_gradients(compiled, x)
        model.zero_grad()
    found = errors({name.replace('_orig_mod.', ''): tensor for name, tensor in found.items()}, expected)
    assert_allowed(found, dict.fromkeys(found, TOLERANCE))
    return f'error {max(found.values()):.1e}'


def few_graphs(counter: CompileCounterWithBackend) -> str:
    if counter.frame_count > MOST_GRAPHS:
        raise Disagreement(f'{counter.frame_count} graphs were compiled')
    return f'{counter.frame_count} compiled'


def times(record: Record, compiled: nn.Module, model: nn.Module, x: Tensor, target: Target) -> None:
    def step(function: nn.Module) -> None:
        with torch.autocast(target.device, torch.bfloat16):
            outputs = function(x)
        sum(output.float().square().mean() for output in outputs).backward()
        model.zero_grad()

    calls = {'eager': lambda: step(model), 'compiled': lambda: step(compiled)}
    found = interleave(calls, 10, 5, stopwatch(target.device))
    rows = [(name, f'{1e3 * entry.median:.2f}') for name, entry in found.items()]
    record.table('AttNet, small, bfloat16 autocast, forward and backward', ('how', 'ms'), rows)
