"""Backbones on every device against float64 on the CPU: every dtype, both formats, autocast, padded batches."""

import pytest
import torch

from mmatconv.analysis.benchmark.random_weights import randomize
from mmatconv.analysis.gpu_check.agreement import check_module
from mmatconv.analysis.gpu_check.backbones import backbones, pad
from mmatconv.analysis.gpu_check.target import Target

DTYPES = ['float32', 'bfloat16', pytest.param('float16', marks=pytest.mark.newer_torch)]
FAMILIES = ['AttNet', 'ATConvPVT', 'ATConvSwin']
SIZE = (33, 45)


@pytest.mark.parametrize('memory_format', ['contiguous', 'channels_last'])
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('family', FAMILIES)
def test_backbones_agree_with_float64(family, dtype, memory_format, device):
    target, dtype = Target(device), getattr(torch, dtype)
    x = target.random(2, 3, *SIZE, dtype=dtype, memory_format=memory_format)
    check_module(randomize(backbones(target)[family]()), x, target, dtype)


@pytest.mark.parametrize('masked', [False, True])
@pytest.mark.parametrize('dtype', DTYPES[1:])
def test_autocast_agrees_with_float64(dtype, masked, device):
    target = Target(device)
    model = randomize(backbones(target)['AttNet'](mask_padding=masked)).eval()
    x = pad(target.random(2, 3, *SIZE), target)
    check_module(model, x, target, getattr(torch, dtype), autocast=True)


@pytest.mark.parametrize('memory_format', ['contiguous', 'channels_last'])
def test_masked_padding_agrees_with_float64(memory_format, device):
    target = Target(device)
    model = randomize(backbones(target)['AttNet'](mask_padding=True)).eval()
    x = pad(target.random(2, 3, *SIZE, memory_format=memory_format), target)
    check_module(model, x, target, torch.float32)
