"""The hand-written products, gates and norms against plain expressions in float64, values and gradients."""

import pytest
import torch
import torch.nn.functional as F

from mmatconv.ops.cpu import tiles
from mmatconv.ops.cpu.linear import linear_gelu, linear_mul, uses_onednn
from mmatconv.ops.glu.gelu_mul import gelu_mul
from mmatconv.ops.products import conv_glu_in_tiles, linear, mlp_in_tiles, rms_linear

# Sums of up to 300 products in the working precision: a few hundred rounding errors of 6e-8, 4e-3 or 5e-4 at most,
# which grow as their root.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 6e-2, torch.float16: 8e-3}
EPS = 1e-6


pytestmark = pytest.mark.usefixtures('small_and_large_maps')


def plain_rms_linear(x, gain, weight, eps=EPS):
    x = x / (x.square().mean(-1, keepdim=True) + eps).sqrt()
    return F.linear(x * gain, weight)


CASES = {
    'linear': (linear, F.linear, [(2, 9, 17, 40), (70, 40), (70,)]),
    'linear without bias': (linear, F.linear, [(2, 9, 17, 40), (70, 40)]),
    'linear of few rows': (linear, F.linear, [(3, 40), (70, 40), (70,)]),
    'gelu_mul': (
        lambda *pair: gelu_mul(*pair, 'grouped'),
        lambda gate, value: F.gelu(gate) * value,
        [(2, 9, 17, 40), (2, 9, 17, 40)],
    ),
    'rms_linear': (lambda *args: rms_linear(*args, EPS), plain_rms_linear, [(2, 9, 17, 40), (40,), (70, 40)]),
}


def check(function, plain, inputs, grad, tolerance):
    """Values and gradients of `function` against `plain` in float64, relative to the largest number of each."""
    exact = [entry.detach().double().requires_grad_() for entry in inputs]
    expected = plain(*exact)
    output = function(*inputs)
    gradients = torch.autograd.grad(output, inputs, grad)
    exact_gradients = torch.autograd.grad(expected, exact, grad.double())
    for value, reference in zip((output, *gradients), (expected, *exact_gradients)):
        assert value.shape == reference.shape
        assert (value.double() - reference).abs().max() <= tolerance * reference.abs().max()


@pytest.mark.parametrize(
    'dtype',
    [pytest.param(d, marks=pytest.mark.newer_torch if d == torch.float16 else (), id=str(d)) for d in TOLERANCE],
)
@pytest.mark.parametrize('case', CASES)
def test_values_and_gradients(case, dtype):
    torch.manual_seed(0)
    function, plain, shapes = CASES[case]
    inputs = [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]
    grad = torch.randn(function(*inputs).shape).to(dtype)
    assert function(*inputs).dtype == dtype
    check(function, plain, inputs, grad, TOLERANCE[dtype])


@pytest.mark.parametrize('case', CASES)
def test_strided_maps(case):
    torch.manual_seed(0)
    function, plain, shapes = CASES[case]
    inputs = [torch.randn(*shape[:-1], 2 * shape[-1])[..., ::2].requires_grad_() for shape in shapes]
    grad = torch.randn(function(*inputs).shape).transpose(-1, -2).contiguous().transpose(-1, -2)
    check(function, plain, inputs, grad, TOLERANCE[torch.float32])


@pytest.mark.parametrize('case', CASES)
def test_gradients_of_gradients(case):
    torch.manual_seed(0)
    function, plain, _ = CASES[case]
    shapes = {'gelu_mul': [(70, 3), (70, 3)], 'rms_linear': [(70, 3), (3,), (2, 3)]}.get(case, [(70, 3), (2, 3)])
    for dtype in (torch.float64, torch.float32):
        inputs = [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]
        exact = [entry.detach().double().requires_grad_() for entry in inputs]
        seconds = []
        for chosen, arguments in ((function, inputs), (plain, exact)):
            first = torch.autograd.grad(chosen(*arguments).square().sum(), arguments, create_graph=True)
            seconds.append(torch.autograd.grad(sum(g.square().sum() for g in first), arguments))
        for second, reference in zip(*seconds):
            error = (second.double() - reference).abs().max() / reference.abs().max()
            assert error < 10 * TOLERANCE[dtype]


@pytest.mark.parametrize('frozen', [0, 1])
@pytest.mark.parametrize('case', CASES)
def test_gradients_of_some_inputs_only(case, frozen):
    torch.manual_seed(0)
    function, plain, shapes = CASES[case]
    inputs = [torch.randn(shape, requires_grad=i != frozen) for i, shape in enumerate(shapes)]
    chosen = [entry for entry in inputs if entry.requires_grad]
    gradients = torch.autograd.grad(function(*inputs).square().sum(), chosen)
    references = torch.autograd.grad(plain(*inputs).square().sum(), chosen)
    for value, reference in zip(gradients, references):
        assert (value - reference).abs().max() <= TOLERANCE[torch.float32] * reference.abs().max()


def test_fused_products_without_gradients():
    torch.manual_seed(0)
    x, weight, bias, factor = torch.randn(130, 40), torch.randn(70, 40), torch.randn(70), torch.randn(130, 70)
    exact = F.linear(x.double(), weight.double(), bias.double())
    with torch.inference_mode():
        for value, reference in (
            (linear(x, weight, bias), exact),
            (linear_gelu(x, weight, bias), F.gelu(exact)),
            (linear_mul(x, weight, bias, factor), exact * factor.double()),
        ):
            assert (value.double() - reference).abs().max() < TOLERANCE[torch.float32] * reference.abs().max()


def test_where_onednn_is_used():
    x = torch.zeros(2, 2)
    assert uses_onednn(x), 'the tested environment has oneDNN'
    assert not uses_onednn(x.double()) and not uses_onednn(x.to('meta'))
    with torch.autocast('cpu', torch.bfloat16):
        assert not uses_onednn(x)
    with torch.backends.mkldnn.flags(enabled=False):
        assert not uses_onednn(x)


@pytest.mark.newer_torch
def test_rms_linear_keeps_half_precision_in_range():
    x = torch.full((4, 600), 6e4, dtype=torch.float16)
    output = rms_linear(x, torch.ones(600).half(), torch.full((2, 600), 0.01).half(), EPS)
    torch.testing.assert_close(output, torch.full((4, 2), 6.0).half(), rtol=1e-2, atol=0)


def conv_glu(x, expand, depthwise, project, norm):
    gate, value = F.linear(x, *expand).chunk(2, dim=-1)
    gate = F.conv2d(gate.permute(0, 3, 1, 2), *depthwise, padding=1, groups=gate.shape[-1]).permute(0, 2, 3, 1)
    product = F.gelu(gate) * value
    if norm is None:
        return F.linear(product, *project)
    return plain_rms_linear(product, 1 if norm[0] is None else norm[0], project[0], norm[1]) + project[1]


@pytest.mark.parametrize('norm', ['gain', 'no gain', 'none'])
@pytest.mark.parametrize('elements', [1, 600, 1 << 19])
@pytest.mark.parametrize('shape', [(1, 1, 1), (2, 7, 5), (1, 13, 9)])
def test_tiles_of_a_gated_unit(monkeypatch, shape, elements, norm):
    """Tiles of one row, of a few, and the whole map."""
    monkeypatch.setattr(tiles, 'TILE_ELEMENTS', elements)
    torch.manual_seed(0)
    dim, hidden = 6, 10
    x = torch.randn(*shape, dim)
    expand, project = (
        (torch.randn(2 * hidden, dim), torch.randn(2 * hidden)),
        (torch.randn(dim, hidden), torch.randn(dim)),
    )
    depthwise = torch.randn(hidden, 1, 3, 3), torch.randn(hidden)
    norm = {'gain': (torch.randn(hidden), EPS), 'no gain': (None, EPS), 'none': None}[norm]
    arguments = x, expand, depthwise, project, norm
    expected = conv_glu(*[double(entry) for entry in arguments])
    with torch.inference_mode():
        output = conv_glu_in_tiles(*arguments)
    assert output.shape == expected.shape
    assert (output.double() - expected).abs().max() < TOLERANCE[torch.float32] * expected.abs().max()


def double(entry):
    if isinstance(entry, tuple):
        return tuple(double(part) for part in entry)
    return entry.double() if isinstance(entry, torch.Tensor) else entry


@pytest.mark.parametrize('elements', [1, 600, 1 << 19])
def test_tiles_of_an_mlp(monkeypatch, elements):
    monkeypatch.setattr(tiles, 'TILE_ELEMENTS', elements)
    torch.manual_seed(0)
    x, expand, project = (
        torch.randn(2, 7, 5, 6),
        (torch.randn(10, 6), torch.randn(10)),
        (torch.randn(8, 10), torch.randn(8)),
    )
    expected = F.linear(F.gelu(F.linear(x.double(), *double(expand))), *double(project))
    with torch.inference_mode():
        output = mlp_in_tiles(x, expand, project)
    assert output.shape == (2, 7, 5, 8)
    assert (output.double() - expected).abs().max() < TOLERANCE[torch.float32] * expected.abs().max()
