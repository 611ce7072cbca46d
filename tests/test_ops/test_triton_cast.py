"""Weights cast together in the layers that ask for it on a GPU."""

import copy

import pytest
import torch

from mmatconv.layers import ATConv, ConvGLU
from mmatconv.ops import tracing


def make(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize('norm', [False, True])
@pytest.mark.parametrize(('dtype', 'rounding'), [(torch.bfloat16, 2**-7), (torch.float16, 2**-10)])
def test_layers_of_a_gpu(monkeypatch, device, dtype, rounding, norm):
    torch.manual_seed(0)
    x = make(2, 8, 6, 5).to(dtype).contiguous(memory_format=torch.channels_last)
    for layer in (ATConv(8), ConvGLU(8, 13, norm)):
        for parameter in layer.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        exact = copy.deepcopy(layer).double()
        expected = exact(x.double())
        grad = make(*expected.shape).to(dtype)
        expected.backward(grad.double())
        layer.to(device)
        with monkeypatch.context() as patch, torch.autocast(device, dtype):
            patch.setattr(tracing, 'gpu_is_pretended', device == 'cpu')
            output = layer(x.to(device))
            output.backward(grad.to(device))
        assert output.dtype == dtype
        pairs = [(output, expected), *((p.grad, e.grad) for p, e in zip(layer.parameters(), exact.parameters()))]
        for found, wanted in pairs:
            assert found.shape == wanted.shape
            # Three roundings of maps follow each other, and each pixel's are their own.
            assert (found.cpu().double() - wanted).norm() <= 3 * rounding * wanted.norm()
