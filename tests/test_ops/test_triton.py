"""The Triton kernels against the definition, on a GPU or in Triton's interpreter."""

import pytest
import torch
from torch.library import opcheck

from mmatconv.ops import dynamic_depthwise_conv2d
from mmatconv.ops.memory_format import nearest_format

pytestmark = [pytest.mark.gpu] if torch.cuda.is_available() else []
FORMATS = [torch.contiguous_format, torch.channels_last]
# The interpreter takes a second for a handful of tiles: only a GPU gets many.
SHAPES = [(1, 1, 1, 1), (1, 3, 1, 17), (2, 1, 5, 3), (1, 40, 4, 3), (1, 1, 33, 70)]
LARGE = [(2, 288, 50, 84), (3, 48, 57, 33), (64, 5, 7, 7)] if torch.cuda.is_available() else []
# Accumulated in the dtype itself: each of up to max(49, H * W) sums rounds once, errors partly cancel. Half precision
# accumulates in float32 and rounds the result once.
UNITS = {torch.float64: 16, torch.float32: 16, torch.float16: 1, torch.bfloat16: 1}


def make(shape, size, device, dtype=torch.float32, memory_format=torch.contiguous_format):
    generator = torch.Generator().manual_seed(sum(shape) + size)
    x, kernel, grad = (
        torch.randn(s, generator=generator, dtype=torch.float64).to(device, dtype)
        for s in (shape, (*shape[:2], size, size), shape)
    )
    return x.contiguous(memory_format=memory_format), kernel, grad.contiguous(memory_format=memory_format)


def run(x, kernel, grad, wanted=(True, True), path='triton', sizes=None):
    """Output and gradients; None for an argument whose gradient is not wanted."""
    x, kernel = (t.detach().requires_grad_(want) for t, want in zip((x, kernel), wanted))
    output = dynamic_depthwise_conv2d(x, kernel, path, sizes)
    gradients = iter(torch.autograd.grad(output, [t for t in (x, kernel) if t.requires_grad], grad))
    return output, *(next(gradients) if want else None for want in wanted)


@pytest.mark.parametrize('memory_format', FORMATS)
@pytest.mark.parametrize(
    ('shape', 'size'),
    [*((shape, 3) for shape in SHAPES + LARGE), ((1, 3, 5, 6), 1), ((1, 3, 6, 3), 5), ((1, 1, 5, 9), 7)]
    + [(shape, size) for shape in LARGE for size in (5, 7)],
)
def test_values_and_gradients(shape, size, memory_format, device, poisoned, exact, assert_exact):
    case = make(shape, size, device, memory_format=memory_format)
    results = run(*case)
    assert_exact(results, exact(*case), UNITS[torch.float32])
    assert results[0].is_contiguous(memory_format=memory_format)
    assert results[1].is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize('memory_format', FORMATS)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes(dtype, memory_format, device, poisoned, exact, assert_exact):
    case = make((1, 3, 6, 9), 3, device, dtype, memory_format)
    results = run(*case)
    assert {t.dtype for t in results} == {dtype}
    assert_exact(results, exact(*case), UNITS[dtype])


VIEWS = {
    'every other channel': lambda x: x[:, ::2],
    'some channels': lambda x: x[:, 1:4],
    'every other column': lambda x: x[..., ::2],
    'transposed': lambda x: x.transpose(2, 3),
    'cropped': lambda x: x[:, :, 1:-1, 2:-1],
    'expanded batch': lambda x: x.expand(2, -1, -1, -1),
    'one pixel everywhere': lambda x: x[..., :1, :1].expand(-1, -1, 5, 4),
}


@pytest.mark.parametrize('memory_format', FORMATS)
@pytest.mark.parametrize('view', VIEWS)
def test_strided_arguments(view, memory_format, device, poisoned, exact, assert_exact):
    x, _, grad = (VIEWS[view](t) for t in make((1, 6, 5, 6), 3, device, memory_format=memory_format))
    kernel = make((*x.shape[1::-1], 1, 1), 3, device)[1].transpose(0, 1)
    results = run(x, kernel, grad.transpose(2, 3).contiguous().transpose(2, 3))
    assert_exact(results, exact(x, kernel, grad), UNITS[torch.float32])
    assert results[0].is_contiguous(memory_format=nearest_format(x))


@pytest.mark.parametrize('memory_format', FORMATS)
@pytest.mark.parametrize('programs', [1, 2, 100])
def test_partial_sums_over_any_number_of_rows(
    programs, memory_format, device, poisoned, exact, assert_exact, monkeypatch
):
    from mmatconv.ops.dynamic_conv import triton_launch as triton

    # All rows in one program, in two, of which the last ends with the map, and in strips as short as they get.
    monkeypatch.setattr(triton, 'PROGRAMS', dict.fromkeys((False, True), programs))
    triton._plan.cache_clear()
    case = make((1, 1, 13, 3), 3, device, memory_format=memory_format)
    assert_exact(run(*case), exact(*case), UNITS[torch.float32])
    triton._plan.cache_clear()


@pytest.mark.parametrize('memory_format', FORMATS)
@pytest.mark.parametrize(
    ('shape', 'dtype'),
    # Loads of 16, 8, 4 and 2 bytes, by what divides W (contiguous) and C (channels_last).
    [((1, 8, 4, 16), torch.bfloat16), ((1, 4, 4, 12), torch.float16), ((1, 2, 4, 10), torch.float32)],
)
def test_loads_of_every_width(shape, dtype, memory_format, device, poisoned, exact, assert_exact):
    case = make(shape, 3, device, dtype, memory_format)
    assert_exact(run(*case), exact(*case), UNITS[dtype])


@pytest.mark.parametrize('memory_format', FORMATS)
@pytest.mark.parametrize('size', [1, 3, 5])
def test_padding_is_zero_whatever_it_holds(size, memory_format, device, poisoned, exact, assert_exact):
    # A width that ends within a load, and rows that end in the first of two strips.
    sizes = [(9, 5), (4, 16)]
    x, kernel, grad = make((2, 2, 9, 16), size, device, memory_format=memory_format)
    inside = torch.zeros(2, 1, 9, 16, dtype=torch.bool, device=device)
    for sample, (height, width) in enumerate(sizes):
        inside[sample, :, :height, :width] = True
    expected = exact(torch.where(inside, x, 0), kernel, grad)
    sizes = torch.tensor(sizes, dtype=torch.int32, device=device)
    x = torch.where(inside, x, float('nan')).contiguous(memory_format=memory_format)
    for path in ('triton', 'grouped', 'reference'):
        results = run(x, kernel, grad, path=path, sizes=sizes)
        assert_exact(results, (expected[0], torch.where(inside.cpu(), expected[1], 0), expected[2]), UNITS[x.dtype])
        for wanted in ((True, False), (False, True)) if path == 'triton' and size == 1 else ():
            for both, one in zip(results, run(x, kernel, grad, wanted, path, sizes)):
                assert one is None or torch.equal(both, one)


def test_second_derivatives_with_padding(device):
    x, kernel, grad = make((2, 1, 3, 4), 3, device, torch.float64)
    sizes = torch.tensor([(3, 2), (2, 4)], dtype=torch.int32, device=device)
    results = []
    for path in ('triton', 'grouped', 'reference'):
        arguments = [t.detach().clone().requires_grad_() for t in (x, kernel, grad)]
        output = dynamic_depthwise_conv2d(*arguments[:2], path, sizes)
        first = torch.autograd.grad(output, arguments[:2], arguments[2], create_graph=True)
        results.append(torch.autograd.grad(sum(t.square().sum() for t in first), arguments))
    torch.testing.assert_close(results[0], results[2])
    torch.testing.assert_close(results[1], results[2])


@pytest.mark.parametrize('wanted', [(True, False), (False, True)])
@pytest.mark.parametrize('memory_format', FORMATS)
def test_gradient_of_one_argument(memory_format, wanted, device, poisoned, exact, assert_exact):
    case = make((1, 3, 7, 6), 3, device, memory_format=memory_format)
    assert_exact(run(*case, wanted), exact(*case), UNITS[torch.float32])


@pytest.mark.parametrize('memory_format', FORMATS)
def test_repeats_bit_by_bit(memory_format, device):
    shape = (4, 64, 57, 33) if device == 'cuda' else (1, 3, 5, 6)
    case = make(shape, 3, device, torch.bfloat16, memory_format)
    for first, second in zip(run(*case), run(*case)):
        assert torch.equal(first, second)


def test_gradient_of_zeros_stride(device, poisoned, exact, assert_exact):
    x, kernel, _ = make((1, 2, 5, 6), 3, device)
    ones = torch.ones((), device=device).expand(x.shape)  # what the gradient of a sum is
    assert_exact(run(x, kernel, ones), exact(x, kernel, ones), UNITS[torch.float32])


@pytest.mark.parametrize('shape', [(0, 3, 4, 5), (2, 0, 4, 5)])
def test_nothing_to_convolve(shape, device):
    results = run(*make(shape, 3, device))
    assert [t.shape for t in results] == [shape, shape, (*shape[:2], 3, 3)]


def test_is_a_sound_operator(device):
    # What depends on the memory format alone is the same for all paths: test_custom_operator.py.
    x, kernel, grad = make((1, 3, 3, 5), 3, device, memory_format=torch.channels_last)
    ops = torch.ops.mmatconv
    sizes = torch.tensor([(2, 4)], dtype=torch.int32, device=device)
    opcheck(ops.dynamic_depthwise_conv2d, (x.requires_grad_(), kernel.requires_grad_(), 'triton', sizes))
    opcheck(ops.dynamic_depthwise_conv2d_backward, (grad, x.detach(), kernel.detach(), True, True, 'triton', sizes))


@pytest.mark.parametrize('channels_last', [False, True])
def test_tiles_fit_the_map_and_the_threads(channels_last, device):
    from mmatconv.ops.triton_tiling import tile

    for width in (1, 7, 14, 25, 42, 84, 200, 336):
        for channels in (1, 3, 32, 40, 240, 512):
            columns, depth = tile(width, channels, 512, channels_last)
            assert all(n & (n - 1) == 0 for n in (columns, depth))
            assert columns * depth <= 512
            assert columns < 2 * width
            assert depth < 2 * channels
    assert tile(200, 288, 512, True) == (16, 32)
    assert tile(200, 288, 512, False) == (128, 4)
    assert tile(7, 512, 512, True) == (8, 64)


@pytest.mark.parametrize('channels_last', [False, True])
def test_lanes_fit_the_map_and_the_threads(channels_last, device):
    from mmatconv.ops.dynamic_conv.triton_launch import lanes

    for columns in (1, 4, 7, 25, 42, 168):
        for channels in (1, 3, 8, 36, 64):
            along = lanes(columns, channels, channels_last)
            assert all(n & (n - 1) == 0 for n in along)
            assert along[0] * along[1] <= 128
            assert along[0] < 2 * columns
            assert along[1] < 2 * channels
    # 84 columns of 8 channels, 36 lanes of 8 channels: no more lanes are idle than must.
    assert lanes(42, 36, True) == (16, 8)
    assert lanes(11, 288, False) == (4, 32)
