"""From ATConv.forward to an operation of torch at most four calls of this package, and one look at the environment."""

import os
import sys

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmatconv.layers import ATConv, Block, ConvGLU


class Depths(TorchDispatchMode):
    """The deepest call of this package, below ATConv.forward, that each operation came from."""

    def __init__(self):
        super().__init__()
        self.deepest = {}

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if any(result.alias_info for result in operation._schema.returns):  # a view
            return operation(*args, **(kwargs or {}))
        frame, names = sys._getframe(), []
        while frame is not None and frame.f_code is not ATConv.forward.__code__:
            module = frame.f_globals.get('__name__', '')
            # Not the call in the place of torch's own.
            if module.startswith('mmatconv.') and module != 'mmatconv.ops.autograd_function':
                names.append(frame.f_code.co_name)
            frame = frame.f_back
        if frame is not None and len(names) > len(self.deepest.get(operation, ())):
            self.deepest[operation] = names
        return operation(*args, **(kwargs or {}))


@pytest.mark.newer_torch
@pytest.mark.usefixtures('small_and_large_maps')
@pytest.mark.parametrize(('size', 'side'), [(3, 12), (5, 12), (5, 20)])
@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_at_most_four_calls_to_an_operation(memory_format, training, size, side):
    layer = ATConv(8, size).requires_grad_(training)
    x = torch.randn(2, 8, side, side).contiguous(memory_format=memory_format)
    layer(x)  # the bins of the map are kept
    with Depths() as depths:
        layer(x)
    assert len(depths.deepest) > 5
    assert max(map(len, depths.deepest.values())) <= 4, depths.deepest


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_a_block_reads_the_environment_three_times(memory_format, monkeypatch):
    class Environment(dict):
        reads = 0

        def get(self, key, default=None):
            Environment.reads += key == 'MMATCONV_OP'
            return super().get(key, default)

    block = Block(8, ATConv(8), ConvGLU(8, 12), layer_scale=True)
    x = torch.randn(2, 8, 12, 12).contiguous(memory_format=memory_format)
    monkeypatch.setattr(os, 'environ', Environment(os.environ))
    block(x).sum().backward()
    assert Environment.reads == 3  # one for the block and for each mixer
