"""Layers on every device against float64 on the CPU, values and gradients: every dtype, both formats, autocast."""

import pytest
import torch

from mmatconv.analysis.benchmark.random_weights import randomize
from mmatconv.analysis.gpu_check.agreement import check_module
from mmatconv.analysis.gpu_check.target import Target
from mmatconv.layers import MLP, ATConv, Block, ConvGLU

DTYPES = ['float32', 'bfloat16', pytest.param('float16', marks=pytest.mark.newer_torch)]
LAYERS = {
    'ATConv': lambda: ATConv(16),
    'ATConv K 7, grid': lambda: ATConv(16, 7, context_pool='grid'),
    'ConvGLU': lambda: ConvGLU(16, 21),
    'ConvGLU without norm': lambda: ConvGLU(16, 21, norm=False),
    'Block': lambda: Block(16, ATConv(16), ConvGLU(16, 21), layer_scale=True),
    'Block with MLP': lambda: Block(16, ATConv(16), MLP(16, 21)),
}


@pytest.mark.parametrize('memory_format', ['contiguous', 'channels_last'])
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('layer', LAYERS)
def test_layers_agree_with_float64(layer, dtype, memory_format, device):
    target, dtype = Target(device), getattr(torch, dtype)
    x = target.random(2, 16, 9, 7, dtype=dtype, memory_format=memory_format)
    check_module(randomize(LAYERS[layer]()), x, target, dtype)


@pytest.mark.parametrize('dtype', DTYPES[1:])
@pytest.mark.parametrize('layer', ['ATConv', 'ConvGLU', 'Block'])
def test_layers_agree_with_float64_under_autocast(layer, dtype, device):
    target = Target(device)
    x = target.random(2, 16, 9, 7, memory_format='channels_last')
    check_module(randomize(LAYERS[layer]()), x, target, getattr(torch, dtype), autocast=True)
