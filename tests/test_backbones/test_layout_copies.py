"""No block copies a channels_last map from one memory format to another, as torch's profiler sees it on a CPU."""

import json
import math

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from mmatconv import ATConvPVT, ATConvSwin, AttNet

pytestmark = [pytest.mark.newer_torch, pytest.mark.usefixtures('large_maps')]

DIM, HEIGHT, WIDTH = 12, 19, 23
ARCH = dict(depths=[1, 1, 1, 1], dims=[DIM] * 4)


def layout(sizes, strides):
    """The sizes from the outermost dimension in memory to the innermost."""
    return tuple(size for _, size in sorted(zip(strides, sizes), reverse=True) if size > 1)


def layout_copies(call, elements, tmp_path):
    """Copies of at least so many elements between different layouts: name of the outer operation, from, to, shape."""
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        call()
    profiler.export_chrome_trace(str(tmp_path / 'trace.json'))
    trace = json.loads((tmp_path / 'trace.json').read_text())['traceEvents']
    events = [event for event in trace if event.get('cat') == 'cpu_op']
    copies = []
    for event in events:
        if event['name'] != 'aten::copy_':
            continue
        sizes, strides = event['args']['Input Dims'][:2], event['args']['Input Strides'][:2]
        if math.prod(sizes[0]) < elements or sizes[0] != sizes[1]:
            continue
        target, source = layout(sizes[0], strides[0]), layout(sizes[1], strides[1])
        if target != source:
            around = [e for e in events if e['ts'] <= event['ts'] and e['ts'] + e['dur'] >= event['ts'] + event['dur']]
            outer = max(around, key=lambda e: e['dur'])['name'].removeprefix('autograd::engine::evaluate_function: ')
            copies.append((outer, source, target, tuple(sizes[0])))
    return copies


def regroups(copy, batch):
    """Whether the operator made it, which makes samples groups of channels (mmatconv/ops/dynamic_conv/grouped.py)."""
    outer, source, target, shape = copy
    if (HEIGHT, WIDTH, batch, DIM) in (source, target):
        return True
    # The gradient takes two copies to that order: torch's view makes it contiguous, its convolution channels_last.
    return outer == 'ViewBackward0' or (outer, shape) == ('ConvolutionBackward0', (1, batch * DIM, HEIGHT, WIDTH))


@pytest.mark.parametrize('backbone', [AttNet, ATConvPVT, ATConvSwin])
@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('batch', [1, 2])
def test_a_block_makes_no_layout_copies(backbone, training, batch, tmp_path):
    block = backbone(ARCH, init='live', drop_path_rate=0.5).train(training).stages[3][0]
    assert block.drop_path.rate == 0.5
    x, gradient = (
        torch.randn(batch, DIM, HEIGHT, WIDTH).contiguous(memory_format=torch.channels_last) for _ in range(2)
    )

    def call():
        with torch.set_grad_enabled(training):
            output = block(x.requires_grad_(training))
        if training:
            output.backward(gradient)

    call()
    copies = layout_copies(call, x.numel(), tmp_path)
    assert [copy for copy in copies if batch == 1 or not regroups(copy, batch)] == []


def test_a_layout_copy_is_seen(tmp_path):
    x = torch.randn(2, DIM, HEIGHT, WIDTH)
    found = layout_copies(lambda: x.contiguous(memory_format=torch.channels_last), x.numel(), tmp_path)
    assert found == [('aten::contiguous', (2, DIM, HEIGHT, WIDTH), (2, HEIGHT, WIDTH, DIM), (2, DIM, HEIGHT, WIDTH))]
