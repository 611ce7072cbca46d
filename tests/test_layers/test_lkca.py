"""LKCA: its two views agree, whichever way the convolution is computed, on maps of any size."""

import pytest
import torch

from mmatconv.layers.token_mixers import lkca
from mmatconv.layers.token_mixers.lkca import LKCA, direct_convolution, fast_length, fft_convolution

KINDS = pytest.mark.parametrize('kernels', ['channel', 'head', 'single'])
# As trained for, smaller, larger, thin.
SIZES = pytest.mark.parametrize('size', [(4, 4), (3, 2), (9, 6), (1, 11)])


def seeded(**options):
    torch.manual_seed(0)
    layer = LKCA(6, size=4, num_heads=3, **options).double()
    torch.nn.init.normal_(layer.kernel)
    return layer


@SIZES
@pytest.mark.parametrize('other_sizes', ['crop', 'interpolate'])
@KINDS
def test_both_views_are_equal(kernels, other_sizes, size):
    layer = seeded(kernels=kernels, other_sizes=other_sizes)
    value = torch.randn(2, 6, *size, dtype=torch.float64)
    weight = torch.randn_like(value)
    wanted = None
    strided = torch.zeros(2, 6, size[0], 2 * size[1], dtype=torch.float64)[..., ::2].copy_(value)
    ways = [
        (layer.attention_view, value),
        (lambda v: direct_convolution(v, layer.kernel_for(*size)), value.contiguous(memory_format=torch.channels_last)),
        (lambda v: fft_convolution(v, layer.kernel_for(*size)), value),
        (lambda v: fft_convolution(v, layer.kernel_for(*size)), strided),
    ]
    for way, given in ways:
        given = given.detach().requires_grad_()
        output = way(given)
        found = [output, *torch.autograd.grad((output * weight).sum(), [given, layer.kernel])]
        wanted = wanted or found
        for tensor, expected in zip(found, wanted):
            torch.testing.assert_close(tensor, expected, rtol=0, atol=1e-10)


@KINDS
def test_a_position_weighs_another_by_where_it_lies(kernels):
    """Every weight written out, on a map of the trained size: none is a softmax, all relative positions are used."""
    layer = seeded(kernels=kernels)
    value = torch.randn(1, 6, 4, 4, dtype=torch.float64)
    output = layer.convolution_view(value)
    per_kernel = 6 // len(layer.kernel)
    for channel, i, j in ((0, 0, 0), (3, 1, 2), (5, 3, 3)):
        matrix = layer.kernel[channel // per_kernel, 3 - i : 7 - i, 3 - j : 7 - j]
        expected = (matrix * value[0, channel]).sum()
        torch.testing.assert_close(output[0, channel, i, j], expected, rtol=1e-12, atol=1e-12)


WAYS = pytest.mark.parametrize(('matrix_to', 'fft_from'), [(10**6, 0), (0, 0), (0, 10**6)])


@WAYS
def test_the_module_is_its_views_between_two_projections(matrix_to, fft_from, monkeypatch):
    monkeypatch.setattr(lkca, 'MATRIX_TO', matrix_to)
    monkeypatch.setattr(lkca, 'FFT_FROM', fft_from)
    layer = seeded()
    x = torch.randn(2, 6, 5, 4, dtype=torch.float64)
    expected = layer.output_proj(layer.attention_view(layer.value_proj(x)))
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-10)


def test_a_crop_is_a_window_and_interpolation_keeps_the_sum():
    crop, resized = seeded(), seeded(other_sizes='interpolate')
    assert crop.kernel_for(9, 3).shape == (3, 7, 5) and torch.equal(crop.kernel_for(9, 3), crop.kernel[:, :, 1:6])
    torch.nn.init.ones_(resized.kernel)
    assert resized.kernel_for(9, 3).shape == (3, 17, 5)
    torch.testing.assert_close(resized.kernel_for(9, 3).sum((1, 2)), resized.kernel.sum((1, 2)))


def test_projections_and_biases_are_options():
    def parameters(**options):
        return sum(p.numel() for p in LKCA(6, size=4, num_heads=3, **options).parameters())

    assert parameters() == 3 * 49 + 2 * (36 + 6)
    assert parameters(kernels='channel', bias=False) == 6 * 49 + 2 * 36
    assert parameters(kernels='single', value_proj=False) == 49 + 36 + 6
    assert parameters(value_proj=False, output_proj=False) == 3 * 49


@WAYS
@pytest.mark.parametrize('dtype', [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.newer_torch)])
def test_autocast_stays_near_float32(dtype, matrix_to, fft_from, monkeypatch):
    monkeypatch.setattr(lkca, 'MATRIX_TO', matrix_to)
    monkeypatch.setattr(lkca, 'FFT_FROM', fft_from)
    torch.manual_seed(0)
    layer = LKCA(8, size=6)
    x = torch.randn(1, 8, 12, 10)
    exact = layer(x)
    with torch.autocast('cpu', dtype):
        output = layer(x)
    assert output.dtype == dtype
    # A handful of roundings in a row: units of 2**-8 and 2**-11.
    unit = {torch.bfloat16: 2**-8, torch.float16: 2**-11}[dtype]
    assert ((output - exact).norm() / exact.norm()).item() < 4 * unit


def test_lengths_of_transforms_are_products_of_small_primes():
    assert [fast_length(n) for n in (1, 7, 11, 13, 31, 97)] == [1, 8, 12, 15, 32, 100]
