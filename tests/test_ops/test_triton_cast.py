"""Weights cast together in the layers that ask for it on a GPU."""

import copy

import pytest
import torch

from mmatconv.layers import ATConv, Block, ConvGLU, pointwise
from mmatconv.layers.block import run_blocks
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


def test_a_stage_casts_once(monkeypatch, device):
    """As each block by itself does, to the bit; not for a mixer with a hook and one with a weight in half precision."""
    torch.manual_seed(0)
    blocks = [Block(8, ATConv(8), ConvGLU(8, 13), layer_scale=True) for _ in range(4)]
    stage = torch.nn.ModuleList(blocks).to(device)
    for parameter in stage.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    blocks[1].channel_mixer.register_forward_hook(lambda *args: None)
    blocks[2].channel_mixer.fc2.bfloat16()
    blocks[3].token_mixer.proj.requires_grad_(False)
    x = make(1, 8, 3, 4).to(device).contiguous(memory_format=torch.channels_last)
    trained = [parameter for parameter in stage.parameters() if parameter.requires_grad]
    counts = []
    original = pointwise.cast_weights

    def count(weights, dtype):
        counts.append(len(weights))
        return original(weights, dtype)

    monkeypatch.setattr(pointwise, 'cast_weights', count)
    monkeypatch.setattr(tracing, 'gpu_is_pretended', device == 'cpu')

    def one_by_one(blocks, x, padding_mask):
        for block in blocks:
            x = block(x, padding_mask)
        yield x

    results = []
    for run in (run_blocks, one_by_one):
        with torch.autocast(device, torch.bfloat16):
            *_, output = run(blocks, x, None)
        results.append([output, *torch.autograd.grad(output.sum(), trained)])
    assert counts[0] == 4 * 3 + 2 * 3
    assert all(torch.equal(*pair) for pair in zip(*results))
