"""The operator as torch's compiler, exporter, counters and autograd see it, on a CPU."""

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from mmatconv.ops import dynamic_depthwise_conv2d
from mmatconv.ops.dynamic_conv.autograd import Convolve
from mmatconv.ops.dynamic_conv.custom_operator import convolve
from mmatconv.ops.memory_format import empty, nearest_format

FORMATS = [torch.contiguous_format, torch.channels_last]
OPS = torch.ops.mmatconv
SIZES = [(2, 6, 8), (3, 9, 7), (4, 12, 5), (5, 16, 16), (2, 20, 33), (7, 8, 6)]


class Layer(nn.Module):
    def forward(self, x, kernel):
        return dynamic_depthwise_conv2d(x * 2, kernel).relu()


def make(batch, height, width, memory_format=torch.contiguous_format, channels=4, size=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(height)
    x = torch.randn(batch, channels, height, width, generator=generator, dtype=dtype)
    kernel = torch.randn(batch, channels, size, size, generator=generator, dtype=dtype)
    return x.contiguous(memory_format=memory_format).requires_grad_(), kernel.requires_grad_()


@pytest.mark.newer_torch
@pytest.mark.parametrize('memory_format', FORMATS)
@pytest.mark.parametrize('backend', ['aot_eager', 'inductor'])
def test_one_graph_serves_every_batch_and_map_size(backend, memory_format):
    torch._dynamo.reset()
    counter = CompileCounterWithBackend(backend)
    layer = Layer()
    compiled = torch.compile(layer, dynamic=True, fullgraph=True, backend=counter)
    for size in SIZES:
        x, kernel = make(*size, memory_format)
        if backend == 'inductor':  # its kernels for the gradient take long to compile and say nothing more
            x, kernel = x.detach(), kernel.detach()
        output, expected = compiled(x, kernel), layer(x, kernel)
        torch.testing.assert_close(output, expected)
        assert output.stride() == expected.stride()
        if output.requires_grad:
            gradients = torch.autograd.grad(output.square().sum(), (x, kernel))
            torch.testing.assert_close(gradients, torch.autograd.grad(expected.square().sum(), (x, kernel)))
    assert counter.frame_count == 1


def test_compiled_values_and_gradients():
    torch._dynamo.reset()
    layer = Layer()
    compiled = torch.compile(layer, backend='aot_eager')
    for size in SIZES[:2]:
        x, kernel = make(*size, size=7)
        output, expected = compiled(x, kernel), layer(x, kernel)
        torch.testing.assert_close(output, expected)
        gradients = torch.autograd.grad(output.square().sum(), (x, kernel))
        torch.testing.assert_close(gradients, torch.autograd.grad(expected.square().sum(), (x, kernel)))


@pytest.mark.newer_torch
@pytest.mark.parametrize('memory_format', FORMATS)
def test_export_with_dynamic_batch_and_map(memory_format):
    batch, height, width = (torch.export.Dim(name) for name in ('batch', 'height', 'width'))
    shapes = ({0: batch, 2: height, 3: width}, {0: batch})
    example = tuple(t.detach() for t in make(2, 6, 8, memory_format))
    program = torch.export.export(Layer(), example, dynamic_shapes=shapes)
    # Plain operations, which every back end of an export knows.
    assert all('mmatconv' not in str(node.target) for node in program.graph.nodes)
    for size in SIZES:
        x, kernel = make(*size, memory_format)
        torch.testing.assert_close(program.module()(x, kernel), Layer()(x, kernel))


@pytest.mark.newer_torch
@pytest.mark.parametrize('memory_format', FORMATS)
@pytest.mark.parametrize('shape', [(1, 1, 1, 1), (2, 3, 1, 17), (1, 4, 5, 3), (2, 1, 6, 4), (2, 4, 1, 1), (1, 4, 3, 1)])
def test_fakes_have_the_strides_of_the_real_results(shape, memory_format):
    batch, channels, height, width = shape
    x, kernel = (t.detach() for t in make(batch, height, width, memory_format, channels))
    output = OPS.dynamic_depthwise_conv2d(x, kernel, 'grouped')
    assert output.stride() == empty(shape, x, nearest_format(x)).stride()
    grad_input, grad_kernel = OPS.dynamic_depthwise_conv2d_backward(output, x, kernel, True, True, 'auto')
    assert grad_input.stride() == output.stride()
    assert grad_kernel.stride() == empty(kernel.shape, x, nearest_format(x)).stride()


@pytest.mark.newer_torch
@pytest.mark.parametrize('memory_format', FORMATS)
def test_is_a_sound_operator(memory_format):
    x, kernel = make(3, 7, 6, memory_format)
    torch.library.opcheck(OPS.dynamic_depthwise_conv2d, (x, kernel, 'auto'))
    for wanted in ((True, True), (False, True), (True, False)):
        gradient = torch.ones_like(x).requires_grad_()
        torch.library.opcheck(OPS.dynamic_depthwise_conv2d_backward, (gradient, x, kernel, *wanted, 'auto'))


@pytest.mark.parametrize('function', [convolve, Convolve.apply, dynamic_depthwise_conv2d])
def test_gradients_of_gradients(function):
    x, kernel = make(2, 3, 4, channels=2, dtype=torch.float64)
    assert torch.autograd.gradgradcheck(lambda *args: function(*args, 'grouped', None), (x, kernel))


def test_meta_tensors_have_shapes():
    x, kernel = torch.empty(2, 3, 4, 5, device='meta'), torch.empty(2, 3, 3, 3, device='meta')
    assert dynamic_depthwise_conv2d(x, kernel).shape == x.shape
