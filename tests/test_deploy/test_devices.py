"""Folded backbones on every device against float64 on the CPU."""

import pytest
import torch

from mmatconv.analysis.benchmark.random_weights import randomize
from mmatconv.analysis.gpu_check.agreement import check_module
from mmatconv.analysis.gpu_check.backbones import backbones
from mmatconv.analysis.gpu_check.target import Target
from mmatconv.deploy.folding import fold


@pytest.mark.parametrize('memory_format', ['contiguous', 'channels_last'])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', pytest.param('float16', marks=pytest.mark.newer_torch)])
@pytest.mark.parametrize('family', ['AttNet', 'ATConvPVT', 'ATConvSwin'])
def test_folded_backbones_agree_with_float64(family, dtype, memory_format, device):
    target, dtype = Target(device), getattr(torch, dtype)
    folded = fold(randomize(backbones(target)[family]()).eval())
    x = target.random(2, 3, 33, 45, dtype=dtype, memory_format=memory_format)
    check_module(folded, x, target, dtype, backward=False)
