"""The CPU path: how it splits the batch, in which memory format it works, and half precision."""

import importlib

import pytest
import torch

from mmatconv.ops import dynamic_depthwise_conv2d
from mmatconv.ops.dynamic_conv.custom_operator import convolve

grouped = importlib.import_module('mmatconv.ops.dynamic_conv.grouped')
FORMATS = [torch.contiguous_format, torch.channels_last]


pytestmark = pytest.mark.usefixtures('small_and_large_maps')


def make(shape, size, memory_format, dtype=torch.float64):
    generator = torch.Generator().manual_seed(size)
    x, kernel, grad = (
        torch.randn(s, generator=generator, dtype=torch.float64).to(dtype)
        for s in (shape, (*shape[:2], size, size), shape)
    )
    return x.contiguous(memory_format=memory_format), kernel, grad


@pytest.mark.parametrize('memory_format', FORMATS)
@pytest.mark.parametrize('size', [3, 7])
@pytest.mark.parametrize('samples', [1, 2, 3, 5])
def test_every_split_of_the_batch_agrees(samples, size, memory_format, exact, assert_exact, poisoned, monkeypatch):
    x, kernel, grad = make((5, 3, 18, 17), size, memory_format)
    monkeypatch.setattr(grouped, 'CALL_ELEMENTS', samples * x[0].numel())
    monkeypatch.setattr(grouped, 'CONTIGUOUS_ELEMENTS', samples * x[0].numel())
    assert len(grouped._parts(x, memory_format)) == (5 + samples - 1) // samples
    results = grouped.grouped(x, kernel), *grouped.grouped_backward(grad, x, kernel)
    # A few hundred sums in float64, torch's own among them.
    assert_exact(results, exact(x, kernel, grad), 64)
    assert results[0].stride() == results[1].stride() == x.stride()
    assert results[2].is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize('memory_format', FORMATS)
@pytest.mark.parametrize('shape', [(2, 3, 20, 20), (2, 3, 4, 4)])
@pytest.mark.parametrize('wanted', [(True, False), (False, True)])
def test_gradient_of_one_argument(wanted, shape, memory_format, exact, assert_exact):
    x, kernel, grad = make(shape, 5, memory_format)
    results = None, *grouped.grouped_backward(grad, x, kernel, *wanted)
    assert [result is not None for result in results[1:]] == list(wanted)
    assert_exact(results, exact(x, kernel, grad), 64)


@pytest.mark.parametrize('memory_format', FORMATS)
@pytest.mark.parametrize('dtype', [pytest.param(torch.float16, marks=pytest.mark.newer_torch), torch.bfloat16])
@pytest.mark.parametrize('autocast', [False, True])
def test_half_precision_rounds_once(autocast, dtype, memory_format, exact, assert_exact):
    x, kernel, grad = make((2, 4, 24, 25), 3, memory_format, dtype)
    leaves = [t.requires_grad_() for t in (x, kernel)]
    with torch.autocast('cpu', dtype, enabled=autocast):
        output = dynamic_depthwise_conv2d(*leaves)
    results = output, *torch.autograd.grad(output, leaves, grad)
    assert {t.dtype for t in results} == {dtype}
    # Computed in float32: what is left is one rounding, half a unit in the last place.
    assert_exact(results, exact(x, kernel, grad), 0.6)


@pytest.mark.parametrize('memory_format', FORMATS)
@pytest.mark.parametrize('size', [3, 7])
@pytest.mark.parametrize('shape', [(1, 3, 4, 5), (1, 3, 20, 21), (3, 2, 5, 4), (3, 2, 20, 18)])
def test_one_call_and_the_operator_agree(shape, size, memory_format, exact, assert_exact):
    x, kernel, grad = make(shape, size, memory_format)
    leaves = [t.requires_grad_() for t in (x, kernel)]
    single = grouped.grouped_in_one_call(*leaves)
    # Above 3 x 3 a batch of maps that are not small takes a call for each sample.
    assert (single is None) == (size == 7 and shape == (3, 2, 20, 18))
    for output in (dynamic_depthwise_conv2d(*leaves), convolve(*leaves, 'grouped', None)):
        assert output.stride() == x.stride()
        assert_exact((output, *torch.autograd.grad(output, leaves, grad)), exact(x, kernel, grad), 64)


@pytest.mark.parametrize('shape', [(0, 3, 4, 5), (2, 0, 4, 5)])
def test_nothing_to_convolve(shape):
    x, kernel = torch.zeros(shape, requires_grad=True), torch.zeros(*shape[:2], 3, 3, requires_grad=True)
    output = dynamic_depthwise_conv2d(x, kernel)
    assert output.shape == shape
    assert [t.shape for t in torch.autograd.grad(output.sum(), (x, kernel))] == [x.shape, kernel.shape]


@pytest.mark.parametrize('memory_format', FORMATS)
def test_away_from_a_cpu_torch_is_asked_for_contiguous_maps(memory_format):
    """As on a GPU, where torch's own depthwise kernels read no other; tensors without values take the same way."""
    asked = []

    class Recorded(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if 'convolution' in function.name():
                maps = args[:2] if 'backward' in function.name() else args[:1]
                asked.append([t.is_contiguous() for t in maps])
            return function(*args, **(kwargs or {}))

    x, kernel, grad = (t.to('meta') for t in make((2, 3, 20, 21), 5, memory_format))
    with Recorded():
        output = grouped.grouped(x, kernel)
        grads = grouped.grouped_backward(grad, x, kernel)
    assert asked == [[True], [True, True]]
    assert [t.is_contiguous(memory_format=memory_format) for t in (output, *grads)] == [True] * 3
