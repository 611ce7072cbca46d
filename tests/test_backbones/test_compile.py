"""torch.compile of the backbones: graphs for all sizes and batches, forward and backward, equal to eager."""

import copy

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from mmatconv import ATConvPVT, ATConvSwin, AttNet

# torch 2.1 breaks the graph at every operator.
pytestmark = pytest.mark.newer_torch
SIZES = [(2, 40, 64), (3, 64, 40), (2, 65, 33), (5, 48, 48), (1, 40, 40), (7, 38, 70)]


@pytest.fixture
def compiled():
    """Compiles a model; the counter has the number of graphs."""
    # Floats as inputs of the graph make torch trace the first one twice, which only takes time.
    with torch._dynamo.config.patch(specialize_float=True):
        torch._dynamo.reset()

        def build(model, dynamic=True):
            counter = CompileCounterWithBackend('aot_eager')
            return torch.compile(model, dynamic=dynamic, fullgraph=True, backend=counter), counter

        yield build
    torch._dynamo.reset()


def make(backbone, stages):
    torch.manual_seed(0)
    arch = dict(depths=[1] * stages, dims=[8, 12][:stages])
    arch.update(exp_rates=2) if backbone is AttNet else arch.update(mlp_ratios=2)
    return backbone(arch, init='live')


def images(size):
    return torch.randn(size[0], 3, *size[1:], generator=torch.Generator().manual_seed(size[2]))


@pytest.mark.parametrize('backbone', [AttNet, ATConvPVT, ATConvSwin])
def test_inference_has_two_graphs(compiled, backbone):
    model = make(backbone, 2).eval()
    call, counter = compiled(model)
    with torch.no_grad():
        for size in SIZES:
            torch.testing.assert_close(call(images(size)), model(images(size)), rtol=1e-4, atol=1e-5)
    assert counter.frame_count <= 2


@pytest.mark.parametrize('backbone', [AttNet, ATConvPVT, ATConvSwin])
def test_training_has_two_graphs(compiled, backbone):
    model = make(backbone, 1).train()
    other = copy.deepcopy(model)
    call, counter = compiled(other)
    for size in SIZES:
        for network, run in ((model, model), (other, call)):
            network.zero_grad()
            run(images(size))[0].square().sum().backward()
        for (name, parameter), found in zip(model.named_parameters(), other.parameters()):
            error = (found.grad - parameter.grad).abs().max() / parameter.grad.abs().max()
            assert error < 1e-4, (name, size)
    assert counter.frame_count <= 2


def test_square_images_first_need_marked_sizes(compiled):
    model = make(AttNet, 1).eval()
    call, counter = compiled(model, dynamic=None)
    with torch.no_grad():
        for size in [(3, 48, 48), *SIZES]:
            x = images(size)
            torch._dynamo.maybe_mark_dynamic(x, [0, 2, 3])
            torch.testing.assert_close(call(x), model(x), rtol=1e-4, atol=1e-5)
    assert counter.frame_count <= 2
