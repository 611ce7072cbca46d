"""The operator against its definition, values and gradients."""

import itertools

import pytest
import torch

from mmatconv.ops import dynamic_depthwise_conv2d, reference

SHAPES = [(1, 1, 1, 1), (2, 3, 7, 5), (1, 4, 2, 9), (3, 1, 5, 5), (2, 6, 1, 8), (4, 8, 16, 15)]
FORMATS = [torch.contiguous_format, torch.channels_last]


def make(shape, size, dtype=torch.float64, memory_format=torch.contiguous_format):
    generator = torch.Generator().manual_seed(hash((shape, size)) % 1000)
    x = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    kernel = torch.randn(*shape[:2], size, size, generator=generator, dtype=torch.float64).to(dtype)
    return x.contiguous(memory_format=memory_format).requires_grad_(), kernel.requires_grad_()


def run(function, x, kernel):
    """Output and both gradients of a fixed, uneven weighting of the output."""
    output = function(x, kernel)
    weight = torch.linspace(-1, 2, output.numel(), dtype=output.dtype).reshape(output.shape)
    return output, *torch.autograd.grad((output * weight).sum(), (x, kernel))


def assert_agree(actual, expected, tolerance):
    for name, a, e in zip(('output', 'grad input', 'grad kernel'), actual, expected):
        assert a.shape == e.shape
        scale = e.double().abs().max().clamp_min(1e-30)
        error = ((a.double() - e.double()).abs().max() / scale).item()
        assert error <= tolerance, f'{name}: relative error {error:.2e}'


def test_reference_is_the_definition():
    x, kernel = make((2, 3, 4, 5), 3)
    expected = torch.zeros(2, 3, 4, 5, dtype=torch.float64)
    for b, c, i, j, u, v in itertools.product(*map(range, (2, 3, 4, 5, 3, 3))):
        row, column = i + u - 1, j + v - 1
        if 0 <= row < 4 and 0 <= column < 5:
            expected[b, c, i, j] += kernel.detach()[b, c, u, v] * x.detach()[b, c, row, column]
    torch.testing.assert_close(reference(x, kernel), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize('memory_format', FORMATS)
@pytest.mark.parametrize('size', [1, 3, 5, 7])
@pytest.mark.parametrize('shape', SHAPES)
def test_values_and_gradients_in_float64(shape, size, memory_format):
    x, kernel = make(shape, size, memory_format=memory_format)
    # Sums of up to max(49, H * W) products, each exact to 1.1e-16.
    assert_agree(run(dynamic_depthwise_conv2d, x, kernel), run(reference, x, kernel), 1e-13)


@pytest.mark.parametrize('memory_format', FORMATS)
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16])
def test_lower_precision_is_as_exact_as_its_rounding(dtype, memory_format):
    x, kernel = make((2, 6, 11, 13), 5, dtype, memory_format)
    exact = run(reference, *(t.detach().double().requires_grad_() for t in (x, kernel)))
    # Accumulation in float32 or better leaves the rounding of the result, and for the kernel gradient that of the
    # product's weights, which the test itself rounds: a few units of the last place.
    assert_agree(run(dynamic_depthwise_conv2d, x, kernel), exact, 4 * torch.finfo(dtype).eps)


@pytest.mark.parametrize('memory_format', FORMATS)
@pytest.mark.parametrize('batch', [1, 3])
def test_output_has_the_memory_format_of_the_input(batch, memory_format):
    x, kernel = make((batch, 4, 6, 7), 3, memory_format=memory_format)
    assert dynamic_depthwise_conv2d(x, kernel).is_contiguous(memory_format=memory_format)


VIEWS = {
    'every other channel': lambda x: x[:, ::2],
    'every other column': lambda x: x[..., ::2],
    'transposed': lambda x: x.transpose(2, 3),
    'cropped': lambda x: x[:, :, 1:-1, 2:-1],
    'expanded batch': lambda x: x[:1].expand(3, -1, -1, -1),
}


@pytest.mark.parametrize('view', VIEWS)
def test_strided_views(view):
    base, _ = make((3, 6, 8, 9), 3)
    x = VIEWS[view](base)
    kernel = torch.randn(x.shape[1], x.shape[0], 3, 3, dtype=torch.float64).transpose(0, 1).requires_grad_()
    expected = run(reference, x.detach().contiguous().requires_grad_(), kernel)
    assert_agree(run(dynamic_depthwise_conv2d, x.detach().requires_grad_(), kernel), expected, 1e-13)
    output = dynamic_depthwise_conv2d(x, kernel)  # through the view, to the tensor behind it
    (gradient,) = torch.autograd.grad(output.sum(), base)
    (gradient_expected,) = torch.autograd.grad(reference(VIEWS[view](base), kernel).sum(), base)
    torch.testing.assert_close(gradient, gradient_expected, rtol=0, atol=1e-13)


def test_gradcheck():
    x, kernel = make((2, 2, 4, 3), 3)
    assert torch.autograd.gradcheck(dynamic_depthwise_conv2d, (x, kernel))


@pytest.mark.parametrize('dtype', [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.newer_torch)])
def test_autocast_casts_both_arguments(dtype):
    x, kernel = make((2, 3, 6, 6), 3, torch.float32)
    with torch.autocast('cpu', dtype):
        output = dynamic_depthwise_conv2d(x, kernel.to(dtype))
    assert output.dtype == dtype
    exact = reference(x.detach().to(dtype).double(), kernel.detach().to(dtype).double())
    assert ((output - exact).abs().max() / exact.abs().max()).item() < 2 * torch.finfo(dtype).eps


def test_autocast_leaves_float64_alone():
    x, kernel = make((1, 2, 4, 4), 3)
    with torch.autocast('cpu', torch.bfloat16):
        assert dynamic_depthwise_conv2d(x, kernel).dtype == torch.float64


@pytest.mark.parametrize(
    ('x_shape', 'kernel_shape', 'named'),
    [
        ((2, 3, 4), (2, 3, 3, 3), '(2, 3, 4)'),
        ((2, 3, 4, 4), (2, 3, 9), '(2, 3, 9)'),
        ((2, 3, 4, 4), (2, 3, 2, 2), '2 x 2'),
        ((2, 3, 4, 4), (2, 3, 3, 5), '3 x 5'),
        ((2, 3, 4, 4), (1, 3, 3, 3), '(1, 3)'),
        ((2, 3, 4, 4), (2, 4, 3, 3), '(2, 4)'),
        ((2, 3, 0, 4), (2, 3, 3, 3), '(2, 3, 0, 4)'),
    ],
)
def test_shapes_that_do_not_fit_are_named(x_shape, kernel_shape, named):
    with pytest.raises(ValueError) as error:
        dynamic_depthwise_conv2d(torch.zeros(x_shape), torch.zeros(kernel_shape))
    assert named in str(error.value)


def test_dtypes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r'torch\.float32 and kernel is torch\.float64'):
        dynamic_depthwise_conv2d(torch.zeros(1, 1, 3, 3), torch.zeros(1, 1, 3, 3, dtype=torch.float64))
    with pytest.raises(ValueError, match=r'torch\.int64'):
        dynamic_depthwise_conv2d(torch.zeros(1, 1, 3, 3, dtype=torch.int64), torch.zeros(1, 1, 3, 3))
