"""The Triton kernels of context-to-kernel against torch in float64, on a GPU or in Triton's interpreter."""

import copy
import sys

import pytest
import torch
import torch.nn.functional as F
from torch._dynamo.testing import CompileCounterWithBackend
from torch.library import opcheck

from mmatconv.deploy.folded_atconv import FoldedATConv
from mmatconv.layers import atconv
from mmatconv.layers.atconv import ATConv
from mmatconv.ops.context_to_kernel.function import context_pool, generate_kernels
from mmatconv.ops.memory_format import nearest_format

pytestmark = [pytest.mark.usefixtures('forced'), *([pytest.mark.gpu] if torch.cuda.is_available() else [])]
FORMATS = [torch.contiguous_format, torch.channels_last]
OPS = torch.ops.mmatconv
PATH = 'triton'
# A pixel in all bins, fewer pixels than bins, rows of pixels, bins that fit and that overlap, several tiles.
SHAPES = [((1, 2, 1, 1), 3), ((1, 40, 2, 3), 5), ((2, 1, 1, 17), 3), ((1, 3, 6, 6), 3), ((1, 2, 23, 35), 3)]
SHAPES += [((2, 288, 50, 84), 3), ((3, 48, 57, 33), 7)] if torch.cuda.is_available() else [((1, 1, 8, 9), 7)]
UNITS = {torch.float64: 16, torch.float32: 16, torch.float16: 1, torch.bfloat16: 1}


def make(*shape, dtype=torch.float32, device='cpu', seed=0):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)


def plain_pool(x, size, grid):
    return F.adaptive_avg_pool2d(x, size).flatten(2) if grid else F.adaptive_avg_pool1d(x.flatten(2), size**2)


def check_pool(x, size, grid, assert_exact, grad=None):
    """Values and gradients against torch's, with and without another reader of the map; the output."""
    x = x.detach().requires_grad_()
    output, same = context_pool(x, size, grid, PATH)
    assert torch.equal(same, x)
    grad = make(*output.shape, dtype=output.dtype, device=x.device) if grad is None else grad
    (gradient,) = torch.autograd.grad(output, x, grad, retain_graph=True)
    exact = x.detach().double().cpu().contiguous().requires_grad_()
    expected = plain_pool(exact, size, grid)
    (exact_gradient,) = torch.autograd.grad(expected, exact, grad.double().cpu())
    # In the map's format, and in any.
    dense = make(*x.shape, dtype=x.dtype, device=x.device).contiguous(memory_format=nearest_format(x))
    for grad_map in (dense, dense.transpose(0, 1).contiguous().transpose(0, 1)):
        (both,) = torch.autograd.grad((output, same), x, (grad, grad_map), retain_graph=True)
        assert_exact((both,), (exact_gradient + grad_map.double().cpu(),), UNITS[x.dtype], ['grad input of both'])
        assert both.is_contiguous(memory_format=nearest_format(x))
    assert torch.equal(torch.autograd.grad(same, x, dense)[0], dense)
    # Means of half precision are in float32.
    assert (output.dtype, gradient.dtype) == (torch.promote_types(x.dtype, torch.float32), x.dtype)
    assert_exact((output,), (expected.detach(),), UNITS[output.dtype])
    assert_exact((gradient,), (exact_gradient,), UNITS[x.dtype], ['grad input'])
    assert gradient.is_contiguous(memory_format=nearest_format(x))
    return output


@pytest.mark.parametrize('grid', [False, True])
@pytest.mark.parametrize('memory_format', FORMATS)
@pytest.mark.parametrize(('shape', 'size'), SHAPES)
def test_pool(shape, size, memory_format, grid, device, poisoned, assert_exact):
    x = make(*shape, device=device).contiguous(memory_format=memory_format)
    output = check_pool(x, size, grid, assert_exact)
    assert output.transpose(1, 2).is_contiguous()


@pytest.mark.parametrize('grid', [False, True])
@pytest.mark.parametrize('memory_format', FORMATS)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_pool_dtypes(dtype, memory_format, grid, device, poisoned, assert_exact):
    x = make(1, 8, 5, 7, dtype=dtype, device=device).contiguous(memory_format=memory_format)
    check_pool(x, 3, grid, assert_exact)


VIEWS = {
    'every other channel': lambda x: x[:, ::2],
    'some channels': lambda x: x[:, 1:4],
    'every other column': lambda x: x[..., ::2],
    'transposed': lambda x: x.transpose(2, 3),
    'cropped': lambda x: x[:, :, 1:-1, 2:-1],
    'first column': lambda x: x[..., :1],
    'expanded batch': lambda x: x.expand(2, -1, -1, -1),
}


@pytest.mark.parametrize('grid', [False, True])
@pytest.mark.parametrize('memory_format', FORMATS)
@pytest.mark.parametrize('view', VIEWS)
def test_pool_of_views(view, memory_format, grid, device, poisoned, assert_exact):
    x = VIEWS[view](make(1, 6, 5, 8, device=device).contiguous(memory_format=memory_format))
    grad = make(x.shape[0], 18, x.shape[1], device=device)[:, ::2].transpose(1, 2)
    check_pool(x, 3, grid, assert_exact, grad)


@pytest.mark.parametrize('memory_format', FORMATS)
@pytest.mark.parametrize('grid', [False, True])
@pytest.mark.parametrize('programs', [1, 40])
def test_partial_sums_over_any_number_of_tiles(
    programs, grid, memory_format, device, poisoned, assert_exact, monkeypatch
):
    from mmatconv.ops.context_to_kernel import triton_launch as triton_context

    monkeypatch.setattr(triton_context, 'PROGRAMS', programs)
    monkeypatch.setattr(triton_context, 'FEWEST_TILES', 1)
    monkeypatch.setattr(triton_context, 'POOL_ELEMENTS', 1)
    monkeypatch.setattr(triton_context, '_pool', triton_context._pool.__wrapped__)  # no plans of before
    check_pool(make(1, 2, 37, 41, device=device).contiguous(memory_format=memory_format), 3, grid, assert_exact)


def test_pool_repeats_bit_by_bit(device):
    shape = (4, 64, 57, 33) if device == 'cuda' else (1, 3, 9, 13)
    x = make(*shape, dtype=torch.bfloat16, device=device)
    assert torch.equal(*(context_pool(x, 3, False, PATH)[0] for _ in range(2)))


def test_pool_to_any_order(device):
    x = make(1, 2, 4, 5, dtype=torch.float64, device=device).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: context_pool(x, 3, True, PATH), x, fast_mode=True)

    def squares(x):
        return [result**2 for result in context_pool(x, 3, True, PATH)]

    assert torch.autograd.gradgradcheck(squares, x, fast_mode=True)


def plain_kernels(context, weight, bias, difference, sigmoid):
    kernels = F.linear(F.gelu(context), weight, bias)
    factor = -difference.sigmoid() if sigmoid else difference
    return (kernels + factor[:, None] * kernels.mean(2, keepdim=True)).unflatten(2, (-1, round(len(weight) ** 0.5)))


NAMES = ('kernels', 'grad context', 'grad weight', 'grad bias', 'grad difference')


@pytest.mark.parametrize('channels_last', [False, True])
@pytest.mark.parametrize(
    ('dtype', 'size', 'bias', 'sigmoid'),
    [
        (torch.float32, 3, True, True),
        (torch.float32, 5, False, True),
        (torch.float32, 7, True, False),
        (torch.float64, 3, True, True),
        (torch.float16, 3, True, True),
        (torch.bfloat16, 3, True, False),
    ],
)
def test_kernels(dtype, size, bias, sigmoid, channels_last, device, poisoned, assert_exact):
    bins = size * size
    # Nine samples are more than a program of the gradients takes.
    shapes = [(9 if size == 3 else 2, 35, 2 * bins), (bins, bins), (bins,), (35,)]
    arguments = [make(*shape, dtype=dtype, device=device, seed=i) for i, shape in enumerate(shapes)]
    arguments[0] = arguments[0][..., ::2]
    if not bias:
        arguments[2] = None
    exact = [None if t is None else t.double().cpu().requires_grad_() for t in arguments]
    arguments = [None if t is None else t.requires_grad_() for t in arguments]
    kernels = generate_kernels(*arguments, sigmoid, size, channels_last, dtype, PATH)
    expected = plain_kernels(*exact, sigmoid)
    grad = make(*kernels.shape, dtype=dtype, device=device)
    given = [i for i, t in enumerate(arguments) if t is not None]
    gradients = torch.autograd.grad(kernels, [arguments[i] for i in given], grad)
    exact_gradients = torch.autograd.grad(expected, [exact[i] for i in given], grad.double().cpu())
    assert kernels.dtype == dtype
    assert kernels.is_contiguous(memory_format=FORMATS[channels_last])
    names = [NAMES[0], *(NAMES[i + 1] for i in given)]
    assert_exact((kernels, *gradients), (expected.detach(), *exact_gradients), UNITS[dtype], names)


@pytest.mark.parametrize('path', [PATH, 'grouped'])
def test_kernels_of_another_dtype(path, device, poisoned, assert_exact):
    """As under autocast: rounded once, and their gradient is read as it comes."""
    shapes = [(1, 5, 9), (9, 9), (9,), (5,)]
    arguments = [make(*shape, device=device, seed=i).requires_grad_() for i, shape in enumerate(shapes)]
    exact = [t.detach().double().cpu().requires_grad_() for t in arguments]
    with torch.autocast(device, torch.bfloat16):
        kernels = generate_kernels(*arguments, True, 3, True, torch.bfloat16, path)
    expected = plain_kernels(*exact, True)
    assert kernels.dtype == torch.bfloat16
    assert kernels.is_contiguous(memory_format=torch.channels_last)
    assert_exact((kernels,), (expected,), 1)
    grad = make(*kernels.shape, dtype=torch.bfloat16, device=device)
    gradients = torch.autograd.grad(kernels, arguments, grad)
    exact_gradients = torch.autograd.grad(expected, exact, grad.double().cpu())
    assert_exact(gradients, exact_gradients, UNITS[torch.float32], NAMES[1:])


def test_kernels_to_any_order(device):
    shapes = [(1, 2, 9), (9, 9), (9,), (2,)]
    arguments = [make(*shape, dtype=torch.float64, device=device).requires_grad_() for shape in shapes]
    assert torch.autograd.gradgradcheck(
        lambda *a: generate_kernels(*a, True, 3, True, torch.float64, PATH), arguments, fast_mode=True
    )


@pytest.mark.parametrize('shape', [(0, 3, 4, 5), (2, 0, 4, 5)])
def test_nothing_to_pool(shape, device):
    x = make(*shape, device=device).requires_grad_()
    output, _ = context_pool(x, 3, False, PATH)
    assert output.shape == (*shape[:2], 9)
    assert torch.autograd.grad(output.sum(), x)[0].shape == shape
    arguments = make(*output.shape, device=device), make(9, 9, device=device), None, make(shape[1], device=device)
    assert generate_kernels(*arguments, True, 3, True, x.dtype, PATH).shape == (*shape[:2], 3, 3)


def test_are_sound_operators(device):
    x = make(1, 3, 4, 5, device=device).contiguous(memory_format=torch.channels_last)
    opcheck(OPS.context_pool, (x.requires_grad_(), 3, False, PATH))
    context, weight, bias, difference = (
        make(*shape, device=device).requires_grad_() for shape in ((1, 3, 9), (9, 9), (9,), (3,))
    )
    opcheck(OPS.context_pool_backward, (context, 4, 5, True, torch.bfloat16, 3, True, PATH))
    opcheck(OPS.generate_kernels, (context, weight, bias, difference, True, 3, True, torch.bfloat16, PATH))


def test_one_graph_serves_every_batch_and_map_size(device):
    torch._dynamo.reset()
    layer = ATConv(4).to(device)
    counter = CompileCounterWithBackend('aot_eager')
    compiled = torch.compile(layer, dynamic=True, fullgraph=True, backend=counter)
    for shape in ((2, 4, 3, 5), (3, 4, 4, 2)):
        x = make(*shape, device=device).contiguous(memory_format=torch.channels_last).requires_grad_()
        outputs = compiled(x), layer(x)
        torch.testing.assert_close(*outputs)
        torch.testing.assert_close(*(torch.autograd.grad(t.square().sum(), x)[0] for t in outputs))
    assert counter.frame_count == 1
    names = [str(node.target) for node in counter.graphs[0].graph.nodes]
    assert [names.count(f'mmatconv.{name}.default') for name in ('context_pool', 'generate_kernels')] == [1, 1]


def test_the_layer_generates_kernels_in_float32_under_autocast(device, assert_exact):
    layer = ATConv(4).to(device)
    x = make(2, 4, 5, 6, dtype=torch.bfloat16, device=device).contiguous(memory_format=torch.channels_last)
    expected = copy.deepcopy(layer).cpu().double().generate_kernels(x.cpu().double(), path='reference')
    with torch.autocast(device, torch.bfloat16):
        kernels = layer.generate_kernels(x)
        assert layer(x).dtype == torch.bfloat16
    assert kernels.dtype == torch.float32
    assert_exact((kernels.detach(),), (expected.detach(),), UNITS[torch.float32])


@pytest.mark.parametrize('context_pool', ['flat', 'grid'])
@pytest.mark.parametrize('memory_format', FORMATS)
def test_the_layer_takes_them(memory_format, context_pool, device, monkeypatch):
    """A layer and its folded form, values and gradients, against torch's operations."""
    torch.manual_seed(0)
    layer = ATConv(4, context_pool=context_pool).to(device)
    layer.difference_control.data.normal_()
    x = make(2, 4, 5, 6, device=device).contiguous(memory_format=memory_format).requires_grad_()
    folded = FoldedATConv(layer)
    inputs = [x, *(p for name, p in layer.named_parameters())]
    results = {}
    calls = []
    for name in ('generate_kernels', 'context_pool'):
        original = getattr(atconv, name)
        monkeypatch.setattr(atconv, name, lambda *a, name=name, original=original: calls.append(name) or original(*a))
    for path in ('triton', 'grouped'):
        monkeypatch.setenv('MMATCONV_OP', path)
        output = layer(x)
        results[path] = output, folded(x), *torch.autograd.grad(output.square().sum(), inputs)
    assert calls == ['context_pool', 'generate_kernels'] * 2
    monkeypatch.setenv('MMATCONV_OP', 'triton')
    # As the operator reads them without a copy.
    assert layer.generate_kernels(x).is_contiguous(memory_format=memory_format)
    for one, other in zip(*results.values()):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_generator_with_a_hook_is_called(device):
    layer = ATConv(4).to(device)
    x = make(1, 4, 5, 6, device=device)
    expected = layer(x)
    called = []
    layer.kernel_gen.register_forward_hook(lambda *args: called.append('kernel_gen'))
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)
    assert called == ['kernel_gen']


def test_at_most_four_calls_to_a_kernel(device, monkeypatch):
    from mmatconv.ops.triton_functions import sum_tiles_kernel

    kind = type(sum_tiles_kernel)
    enter, deepest = kind.__getitem__, {}

    def spy(kernel, grid):
        frame, names = sys._getframe(1), []
        while frame is not None and frame.f_code is not ATConv.branch.__code__:
            module = frame.f_globals.get('__name__', '')
            # Not those in the place of torch's and Triton's front doors.
            if module.startswith('mmatconv.') and not module.endswith(('.triton_plans', '.autograd_function')):
                names.append(frame.f_code.co_name)
            frame = frame.f_back
        if frame is not None:
            deepest[kernel.__name__] = names
        return enter(kernel, grid)

    monkeypatch.setattr(kind, '__getitem__', spy)
    layer = ATConv(4).to(device)
    for training in (False, True):
        with torch.set_grad_enabled(training):
            layer(make(1, 4, 5, 6, device=device))
        assert sorted(deepest) == ['convolve_kernel', 'generate_kernel', 'pool_kernel']
        assert max(map(len, deepest.values())) <= 4, deepest


def test_torch_computes_the_same(device):
    """What runs where Triton cannot."""
    x = make(2, 3, 7, 5, dtype=torch.float64, device=device).requires_grad_()
    context, weight, bias, difference = (
        make(*shape, dtype=torch.float64, device=device) for shape in ((1, 3, 9), (9, 9), (9,), (3,))
    )
    for memory_format in FORMATS:
        for grid in (False, True):
            results = context_pool(x.contiguous(memory_format=memory_format), 3, grid, 'grouped')
            expected = plain_pool(x, 3, grid), x
            torch.testing.assert_close(results, expected)
            grads = [make(*t.shape, dtype=torch.float64, device=device) for t in results]
            gradients = (torch.autograd.grad(t, x, grads)[0] for t in (results, expected))
            torch.testing.assert_close(*gradients)
    arguments = context, weight, bias, difference
    for sigmoid in (False, True):
        kernels = generate_kernels(*arguments, sigmoid, 3, True, torch.float64, 'grouped')
        torch.testing.assert_close(kernels, plain_kernels(*arguments, sigmoid))
