"""The Triton kernels of the gated linear unit against torch in float64, on a GPU or in Triton's interpreter."""

import pytest
import torch
import torch.nn.functional as F

from mmatconv.layers.channel_mixers import ConvGLU
from mmatconv.ops.glu.gelu_mul import gelu_mul, gelu_mul_scale
from mmatconv.ops.products import rms_linear

pytestmark = [pytest.mark.usefixtures('forced'), *([pytest.mark.gpu] if torch.cuda.is_available() else [])]
PATH = 'triton'
EPS = 1e-6
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
# The scale is that of the rounded product: it differs from the exact one by up to its last place.
UNITS = {torch.float64: 16, torch.float32: 16, torch.float16: 2, torch.bfloat16: 2}
NAMES = ('product', 'scale', 'grad gate', 'grad value')
SHAPES = [(1, 1), (3, 5), (2, 3, 4, 8), (5, 341), (2, 1100)]
SHAPES += [(2, 200, 320, 384), (3, 49, 1365)] if torch.cuda.is_available() else []


def make(*shape, dtype=torch.float32, device='cpu', seed=0):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)


def plain(gate, value):
    product = F.gelu(gate) * value
    return product, (product.square().mean(-1, keepdim=True) + EPS).rsqrt()


def check(gate, value, grad, grad_scale, assert_exact):
    """Both outputs and both gradients, with the scale and without."""
    gate, value = gate.detach().requires_grad_(), value.detach().requires_grad_()
    exact = [t.detach().double().cpu().requires_grad_() for t in (gate, value)]
    expected = plain(*exact)
    results = gelu_mul_scale(gate, value, EPS, PATH)
    assert all(t.is_contiguous() for t in results)
    assert (results[0].dtype, results[1].dtype) == (gate.dtype, grad_scale.dtype)
    gradients = torch.autograd.grad(results, (gate, value), (grad, grad_scale))
    exact_grads = grad.double().cpu(), grad_scale.double().cpu()
    exact_gradients = torch.autograd.grad(expected, exact, exact_grads, retain_graph=True)
    # The scale of half precision comes in float32: what limits it is the product.
    results = results[0], results[1].to(gate.dtype)
    expected_values = [t.detach() for t in expected]
    assert_exact((*results, *gradients), (*expected_values, *exact_gradients), UNITS[gate.dtype], NAMES)
    product = gelu_mul(gate, value, PATH)
    assert torch.equal(product, results[0])
    gradients = torch.autograd.grad(product, (gate, value), grad)
    exact_gradients = torch.autograd.grad(expected[0], exact, exact_grads[0])
    assert_exact(gradients, exact_gradients, UNITS[gate.dtype], NAMES[2:])


def make_all(shape, dtype, device):
    gate, value, grad = (make(*shape, dtype=dtype, device=device, seed=i) for i in range(3))
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return gate, value, grad, make(*shape[:-1], 1, dtype=wide, device=device)


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize('shape', SHAPES)
def test_values_and_gradients(shape, dtype, device, poisoned, assert_exact):
    check(*make_all(shape, dtype, device), assert_exact)


VIEWS = {
    'halves of one product': lambda gate, value: torch.cat([gate, value], -1).chunk(2, -1),
    'halves by rows': lambda gate, value: torch.cat([gate, value], 1).chunk(2, 1),
    'one of them a half': lambda gate, value: (gate, torch.cat([gate, value], -1).chunk(2, -1)[1]),
    'transposed': lambda gate, value: (gate.transpose(1, 2).contiguous().transpose(1, 2), value),
    'every other': lambda gate, value: (torch.stack([gate, gate], -1)[..., 0], value),
    'expanded': lambda gate, value: (gate[:1].expand_as(gate), value[..., :1].expand_as(value)),
}


@pytest.mark.parametrize('view', VIEWS)
def test_views(view, device, poisoned, assert_exact):
    gate, value, grad, grad_scale = make_all((2, 3, 4, 8), torch.float32, device)
    grad = grad.transpose(0, 1).contiguous().transpose(0, 1)
    check(*VIEWS[view](gate, value), grad, grad_scale.expand(2, 3, 4, 1), assert_exact)


def test_halves_are_read_where_they_lie(device):
    from mmatconv.ops.glu import triton_launch as triton_gated

    gate, value = make(2, 3, 4, 16, device=device).chunk(2, -1)
    for whole in (False, True):
        rows = triton_gated._rows((gate, value), whole)[0]
        assert [t.data_ptr() for t in rows] == [gate.data_ptr(), value.data_ptr()]
        assert {(*t.shape, t.stride(0)) for t in rows} == {(24, 8, 16)}
    gate, value = make(2, 16, 3, 4, device=device).chunk(2, 1)
    rows = triton_gated._rows((gate, value), False)[0]
    assert [t.data_ptr() for t in rows] == [gate.data_ptr(), value.data_ptr()]
    assert {(*t.shape, t.stride(0)) for t in rows} == {(2, 96, 192)}


def test_gradients_of_gradients(device):
    pair = [make(3, 4, dtype=torch.float64, device=device, seed=i).requires_grad_() for i in range(2)]
    assert torch.autograd.gradgradcheck(lambda *pair: gelu_mul(*pair, PATH), pair, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda *pair: gelu_mul_scale(*pair, EPS, PATH), pair, fast_mode=True)


def test_repeats_bit_by_bit(device):
    gate, value, grad, grad_scale = make_all((7, 300), torch.bfloat16, device)
    gate, value = gate.requires_grad_(), value.requires_grad_()
    results = [gelu_mul_scale(gate, value, EPS, PATH) for _ in range(2)]
    first, second = ((*r, *torch.autograd.grad(r, (gate, value), (grad, grad_scale))) for r in results)
    assert all(torch.equal(one, other) for one, other in zip(first, second))


def test_nothing_to_gate(device):
    gate = make(0, 4, device=device).requires_grad_()
    product, scale = gelu_mul_scale(gate, gate, EPS, PATH)
    assert (product.shape, scale.shape) == ((0, 4), (0, 1))
    assert torch.autograd.grad(product.sum(), gate)[0].shape == (0, 4)


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_scale_goes_to_the_product_behind_it(dtype, device):
    gate, value, _, _ = make_all((5, 24), dtype, device)
    gain, weight = make(24, dtype=dtype, device=device), make(7, 24, dtype=dtype, device=device)
    product, scale = gelu_mul_scale(gate, value, EPS, PATH)
    torch.testing.assert_close(
        rms_linear(product, gain, weight, EPS, scale), rms_linear(product, gain, weight, EPS), rtol=0.02, atol=0.05
    )
    exact = plain(gate.double(), value.double())
    expected = F.linear(exact[0] * exact[1] * gain.double(), weight.double())
    output = rms_linear(product, gain, weight, EPS, scale).double()
    assert (output - expected).abs().max() <= 16 * torch.finfo(dtype).eps * expected.abs().max()


@pytest.mark.parametrize('norm', [True, False])
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_the_layer_takes_them(memory_format, norm, device, monkeypatch):
    """The channel mixer, values and gradients, against torch's operations."""
    from mmatconv.ops.glu import triton_launch

    torch.manual_seed(0)
    layer = ConvGLU(4, 10, norm=norm).to(device)
    x = make(2, 4, 5, 3, device=device).contiguous(memory_format=memory_format).requires_grad_()
    inputs = [x, *layer.parameters()]
    calls = []
    original = triton_launch.gate
    monkeypatch.setattr(triton_launch, 'gate', lambda *args: calls.append(args[2]) or original(*args))
    results = {}
    for path in ('triton', 'grouped'):
        monkeypatch.setenv('MMATCONV_OP', path)
        output = layer(x)
        results[path] = output, *torch.autograd.grad(output.square().sum(), inputs)
    # Contiguous maps are normalised apart.
    assert calls == [EPS if norm and memory_format == torch.channels_last else None]
    for one, other in zip(*results.values()):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('eps', [EPS, None])
def test_torch_computes_the_same(eps, device):
    """What runs where Triton cannot."""
    gate, value, grad, grad_scale = make_all((2, 3, 8), torch.float64, device)
    pair = gate.requires_grad_(), value.requires_grad_()
    if eps:
        results, expected, grads = gelu_mul_scale(*pair, eps, 'grouped'), plain(*pair), (grad, grad_scale)
    else:
        results, expected, grads = (gelu_mul(*pair, 'grouped'),), plain(*pair)[:1], (grad,)
    torch.testing.assert_close(results, expected)
    gradients = (torch.autograd.grad(outputs, pair, grads) for outputs in (results, expected))
    torch.testing.assert_close(*gradients)
