"""The Triton kernels of the gated linear unit against torch in float64, on a GPU or in Triton's interpreter."""

import copy

import pytest
import torch
import torch.nn.functional as F

from mmatconv.layers.channel_mixers import ConvGLU
from mmatconv.layers.padding_mask import PaddingMask
from mmatconv.ops.glu.conv_gelu_mul import conv_gelu_mul
from mmatconv.ops.glu.gelu_mul import gelu_mul

pytestmark = [pytest.mark.usefixtures('forced'), *([pytest.mark.gpu] if torch.cuda.is_available() else [])]
PATH = 'triton'
EPS = 1e-6
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
# Sums of ten products and, in float32, a GELU whose error is 1.4e-7 of its argument: two roundings. With few channels a
# pixel's product may be small throughout, and errors grow by the cube of its scale: torch's own reach 7 units there.
UNITS = {torch.float64: 16, torch.float32: 32, torch.float16: 2, torch.bfloat16: 2}


def make(*shape, dtype=torch.float32, device='cpu', seed=0):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)


def wide(dtype):
    return torch.float64 if dtype == torch.float64 else torch.float32


def exact_gate(gate, value):
    return F.gelu(gate) * value


def check_gate(gate, value, grad, assert_exact):
    pair = [t.detach().requires_grad_() for t in (gate, value)]
    exact = [t.detach().double().cpu().requires_grad_() for t in pair]
    product, expected = gelu_mul(*pair, PATH), exact_gate(*exact)
    assert (product.dtype, product.is_contiguous()) == (gate.dtype, True)
    gradients = torch.autograd.grad(product, pair, grad)
    exact_gradients = torch.autograd.grad(expected, exact, grad.double().cpu())
    names = ('product', 'grad gate', 'grad value')
    assert_exact((product, *gradients), (expected.detach(), *exact_gradients), UNITS[gate.dtype], names)


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize('shape', [(1, 1), (2, 3, 4, 8), (5, 341), (2, 1100)])
def test_gate(shape, dtype, device, poisoned, assert_exact):
    check_gate(*(make(*shape, dtype=dtype, device=device, seed=i) for i in range(3)), assert_exact)


VIEWS = {
    'halves of one product': lambda gate, value: torch.cat([gate, value], -1).chunk(2, -1),
    'halves by rows': lambda gate, value: torch.cat([gate, value], 1).chunk(2, 1),
    'one of them a half': lambda gate, value: (gate, torch.cat([gate, value], -1).chunk(2, -1)[1]),
    'transposed': lambda gate, value: (gate.transpose(1, 2).contiguous().transpose(1, 2), value),
    'every other': lambda gate, value: (torch.stack([gate, gate], -1)[..., 0], value),
    'expanded': lambda gate, value: (gate[:1].expand_as(gate), value[..., :1].expand_as(value)),
}


@pytest.mark.parametrize('view', VIEWS)
def test_gate_of_views(view, device, poisoned, assert_exact):
    gate, value, grad = (make(2, 3, 4, 8, device=device, seed=i) for i in range(3))
    check_gate(*VIEWS[view](gate, value), grad.transpose(0, 1).contiguous().transpose(0, 1), assert_exact)


def test_halves_are_read_where_they_lie(device):
    from mmatconv.ops.glu import triton_launch

    gate, value = make(2, 16, 3, 4, device=device).chunk(2, 1)
    rows = triton_launch._rows((gate, value))
    assert [t.data_ptr() for t in rows] == [gate.data_ptr(), value.data_ptr()]
    assert {(*t.shape, t.stride(0)) for t in rows} == {(2, 96, 192)}


def test_rows_of_2_to_31_numbers(device):
    """The first piece of such a row: its width, in numbers, does not fit into 32 bits."""
    import triton.language as tl

    from mmatconv.ops.glu.triton_kernels import gate_gradients_kernel, gate_kernel

    gate, value, grad = (make(64, device=device, seed=i) for i in range(3))
    product, grad_gate, grad_value = (torch.zeros_like(gate) for _ in range(3))
    units = 2**31 // 8
    constants = dict(BLOCK_R=1, BLOCK_D=64, VEC=8, ACC=tl.float32)
    gate_kernel[(1,)](value, gate, product, 1, units, 2**25, *[units] * 3, **constants)
    gate_gradients_kernel[(1,)](value, gate, grad, grad_gate, grad_value, 1, units, 2**25, *[units] * 4, **constants)
    torch.testing.assert_close(product, exact_gate(gate, value))
    torch.testing.assert_close(grad_value, F.gelu(gate) * grad)


@pytest.mark.filterwarnings('ignore:overflow encountered:RuntimeWarning')
def test_gelu_of_every_size(device):
    """Absolute error within a rounding of float32, and three digits of the tail."""
    gate = torch.cat([torch.linspace(-6, 6, 4001), torch.tensor([-65504.0, -30, -8, 8, 30, 65504, -3e38, 3e38])])
    gate = gate.to(device).requires_grad_()
    product = gelu_mul(gate, torch.ones_like(gate), PATH)
    (slope,) = torch.autograd.grad(product.sum(), gate)
    x = gate.detach().double().cpu()
    below = torch.special.ndtr(x)
    error = (product.detach().cpu() - x * below).abs()
    assert (error <= 3e-7 * x.abs().clamp_min(1)).all()
    tail = (x < 0) & (x > -5.6)
    assert (error[tail] <= 1e-3 * (x * below).abs()[tail]).all()
    expected = below + x * (-0.5 * x * x).exp() * 0.3989422804014327
    assert ((slope.cpu() - expected).abs() <= 5e-7).all()


def exact_conv(both, weight, bias, sizes, eps):
    """(product, scale) from plain operations, samples one by one; the bias that ``both`` contains does not matter."""
    hidden = len(weight)
    gate, value = both.chunk(2, -1)
    maps = []
    for i, sample in enumerate(gate[..., :hidden].permute(0, 3, 1, 2)):
        valid = torch.zeros_like(sample)
        rows, columns = sample.shape[1:] if sizes is None else sizes[i]
        valid[:, :rows, :columns] = 1
        maps.append(F.conv2d(sample * valid, weight, bias, padding=1, groups=hidden).permute(1, 2, 0))
    product = F.gelu(torch.stack(maps)) * value[..., :hidden]
    scale = (product.square().mean(-1, keepdim=True) + eps).rsqrt() if eps else None
    return F.pad(product, (0, gate.shape[-1] - hidden)), scale


def make_conv(shape, hidden, dtype, device):
    """Maps with zeros from channel ``hidden`` on, their bias, weight, bias and the gradients of product and scale."""
    gate, value, grad = (make(*shape, dtype=dtype, device=device, seed=i) for i in range(3))
    gate[..., hidden:] = value[..., hidden:] = 0
    options = dict(dtype=wide(dtype), device=device)
    weight, bias = make(hidden, 1, 3, 3, **options), make(hidden, **options)
    both_bias = make(2 * hidden, **options)
    return (torch.cat([gate, value], -1), both_bias, weight, bias), (grad, make(*shape[:3], 1, **options))


def gradients_of_exact(outputs, inputs, grads):
    """To (both, its bias, weight, bias): the bias has been added to every pixel of ``both``."""
    both, both_bias, *weights = inputs
    grad_both, *others = torch.autograd.grad(outputs, (both, *weights), grads)
    halves = grad_both.sum((0, 1, 2)).view(2, -1)[:, : len(both_bias) // 2]
    return grad_both, halves.flatten(), *others


def check_conv(inputs, grads, sizes, eps, assert_exact):
    inputs = [t.detach().requires_grad_() for t in inputs]
    dtype = inputs[0].dtype
    lengths = None if sizes is None else torch.tensor(sizes, dtype=torch.int32, device=inputs[0].device)
    results = conv_gelu_mul(*inputs, eps, PATH, lengths)
    assert results[0].is_contiguous()
    assert results[0].dtype == dtype
    assert (results[1] is None) == (eps is None)
    both, _, *weights = exact = [t.detach().double().cpu().requires_grad_() for t in inputs]
    expected = exact_conv(both, *weights, sizes, eps)
    count = 1 + (eps is not None)
    results, expected = results[:count], expected[:count]
    gradients = torch.autograd.grad(results, inputs, grads[:count])
    exact_gradients = gradients_of_exact(expected, exact, [t.double().cpu() for t in grads[:count]])
    assert [t.dtype for t in gradients] == [t.dtype for t in inputs]
    values = [t.detach() for t in expected]
    assert_exact(results, values, UNITS[dtype], ('product', 'scale'))
    # The gradient of the convolution's output is rounded before it becomes that of gate, weight and bias.
    gradients = [t.to(dtype) for t in gradients]
    names = ('grad map', 'grad bias of the map', 'grad weight', 'grad bias')
    assert_exact(gradients, exact_gradients, UNITS[dtype], names)
    if sizes is not None:
        valid = torch.zeros(inputs[0].shape[:3], dtype=torch.bool)
        for sample, (rows, columns) in zip(valid, sizes):
            sample[:rows, :columns] = True
        assert not gradients[0].cpu().chunk(2, -1)[0][~valid].any()


# Several strips of rows, blocks of columns and of channels, each with a remainder; a single pixel; no padding, some
# padding, whole rows and columns of it, sizes that leave one pixel.
CASES = {
    'one pixel': ((1, 1, 1, 3), 3, None),
    'strips and padded channels': ((2, 6, 3, 8), 5, None),
    'columns': ((1, 2, 19, 10), 10, [[2, 15]]),
    'padding': ((3, 5, 4, 6), 6, [[5, 4], [3, 2], [1, 1]]),
    'hidden 341': ((1, 3, 2, 341), 341, [[2, 2]]),
}
CASES |= (
    {
        'hidden 344': ((2, 49, 33, 344), 341, [[49, 20], [11, 33]]),
        'hidden 1365': ((2, 25, 42, 1365), 1365, None),
        'hidden 768': ((2, 200, 336, 768), 768, None),
    }
    if torch.cuda.is_available()
    else {}
)


@pytest.mark.parametrize('case', CASES)
def test_conv(case, device, poisoned, assert_exact):
    shape, hidden, sizes = CASES[case]
    check_conv(*make_conv(shape, hidden, torch.float32, device), sizes, EPS, assert_exact)


@pytest.mark.parametrize('dtype', [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_conv_in_every_precision(dtype, device, poisoned, assert_exact):
    check_conv(*make_conv((2, 5, 4, 16), 13, dtype, device), [[5, 3], [4, 4]], EPS, assert_exact)


def test_conv_without_norm(device, poisoned, assert_exact):
    check_conv(*make_conv((2, 3, 4, 8), 8, torch.float32, device), None, None, assert_exact)


CONV_VIEWS = {
    'part of a map': lambda both: torch.cat([both, both], -1)[..., :16],
    'transposed': lambda both: both.transpose(1, 2).contiguous().transpose(1, 2),
    'expanded': lambda both: both[:1, :1].expand_as(both),
    'one column of any stride': lambda both: both[:, :, :1].contiguous().as_strided((2, 3, 1, 16), (48, 16, 7, 1)),
    'channels apart': lambda both: torch.stack([both, both], -1)[..., 0],
}


@pytest.mark.parametrize('view', CONV_VIEWS)
def test_conv_of_views(view, device, poisoned, assert_exact):
    (both, *weights), (grad, grad_scale) = make_conv((2, 3, 4, 8), 8, torch.float32, device)
    both = CONV_VIEWS[view](both)
    width = both.shape[2]
    grads = (
        grad[:, :, :width].transpose(0, 1).contiguous().transpose(0, 1),
        grad_scale[:1, :, :width].expand(2, 3, -1, 1),
    )
    check_conv((both, *weights), grads, None, EPS, assert_exact)


def test_conv_of_1365_channels_is_cut_into_blocks(device, assert_exact):
    """All channels of a pixel are in no single program: their sums of squares come from 43."""
    inputs, _ = make_conv((1, 1, 1, 1365), 1365, torch.float32, device)
    both, _, *weights = (t.double().cpu() for t in inputs)
    expected = exact_conv(both, *weights, None, EPS)
    assert_exact(conv_gelu_mul(*inputs, EPS, PATH), expected, 16, ('product', 'scale'))


def test_conv_repeats_bit_by_bit(device):
    inputs, grads = make_conv((2, 5, 3, 8), 8, torch.bfloat16, device)
    inputs = [t.requires_grad_() for t in inputs]
    results = [conv_gelu_mul(*inputs, EPS, PATH) for _ in range(2)]
    first, second = ((*r, *torch.autograd.grad(r, inputs, grads)) for r in results)
    assert all(torch.equal(one, other) for one, other in zip(first, second))


def test_gradients_of_gradients(device):
    pair = [make(3, 4, dtype=torch.float64, device=device, seed=i).requires_grad_() for i in range(2)]
    assert torch.autograd.gradgradcheck(lambda *pair: gelu_mul(*pair, PATH), pair, fast_mode=True)
    inputs = [t.requires_grad_() for t in make_conv((2, 2, 3, 2), 2, torch.float64, device)[0]]
    sizes = torch.tensor([[2, 2], [1, 3]], device=device)

    def mix(both, both_bias, *arguments):
        return conv_gelu_mul(both + both_bias.detach(), both_bias, *arguments)

    assert torch.autograd.gradgradcheck(lambda *t: mix(*t, EPS, PATH, sizes), inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda *t: mix(*t, None, PATH)[0], inputs, fast_mode=True)


def test_nothing_to_gate(device):
    gate = make(0, 4, device=device).requires_grad_()
    product = gelu_mul(gate, gate, PATH)
    assert product.shape == (0, 4)
    assert torch.autograd.grad(product.sum(), gate)[0].shape == (0, 4)
    inputs, grads = make_conv((0, 2, 3, 4), 4, torch.float32, device)
    inputs = [t.requires_grad_() for t in inputs]
    results = conv_gelu_mul(*inputs, EPS, PATH)
    assert [t.shape for t in results] == [(0, 2, 3, 4), (0, 2, 3, 1)]
    gradients = torch.autograd.grad(results, inputs, grads)
    assert [t.shape for t in gradients] == [t.shape for t in inputs]
    assert not any(t.any() for t in gradients[1:])


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
@pytest.mark.parametrize('norm', [True, False])
def test_scale_and_bias_are_left_to_the_sum(norm, dtype, device, monkeypatch):
    """But products in float16, which may overflow before they are normalised, come normalised."""
    torch.manual_seed(0)
    layer = ConvGLU(4, 10, norm=norm).to(device, dtype)
    x = make(2, 4, 5, 3, dtype=dtype, device=device).contiguous(memory_format=torch.channels_last)
    branch = layer.branch(x)
    assert branch.bias is layer.fc2.bias
    assert (branch.scale is not None) == (norm and dtype != torch.float16)
    whole = layer(x)
    monkeypatch.setenv('MMATCONV_OP', 'grouped')
    exact = copy.deepcopy(layer).double()(x.double())
    for output in (branch.total(), whole):
        # Roundings of the convolution, the gate, two products and the norm.
        assert (output.double() - exact).abs().max() <= 16 * torch.finfo(dtype).eps * exact.abs().max()


@pytest.mark.parametrize('norm', [True, False])
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_the_layer_takes_them(memory_format, norm, device, monkeypatch):
    """The channel mixer, values and gradients, against torch's operations."""
    from mmatconv.ops.glu import triton_launch

    torch.manual_seed(0)
    layer = ConvGLU(4, 10, norm=norm).to(device)
    x = make(2, 4, 5, 3, device=device).contiguous(memory_format=memory_format).requires_grad_()
    padding_mask = PaddingMask(torch.tensor([[5, 3], [3, 2]], dtype=torch.int32, device=device), (5, 3))
    inputs = [x, *layer.parameters()]
    calls = []
    for name in ('gate', 'conv_gate'):
        original = getattr(triton_launch, name)
        monkeypatch.setattr(
            triton_launch, name, lambda *args, n=name, call=original: calls.append((n, args[-1])) or call(*args)
        )
    results = {}
    for path in ('triton', 'grouped'):
        monkeypatch.setenv('MMATCONV_OP', path)
        output = layer(x, padding_mask)
        results[path] = output, *torch.autograd.grad(output.square().sum(), inputs)
    # A map in the contiguous format is convolved and normalised apart.
    fused = memory_format == torch.channels_last
    assert [name for name, _ in calls] == ['conv_gate' if fused else 'gate']
    assert not fused or calls[0][1] == (EPS if norm else None)
    for one, other in zip(*results.values()):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_a_convolution_with_a_hook_is_called(device):
    layer = ConvGLU(4, 10).to(device)
    x = make(1, 4, 3, 3, device=device).contiguous(memory_format=torch.channels_last)
    layer.dwconv.register_forward_hook(lambda module, args, output: output * 0)
    torch.testing.assert_close(layer(x), layer.fc2.bias[:, None, None].expand(1, 4, 3, 3))


@pytest.mark.parametrize('eps', [EPS, None])
def test_torch_computes_the_same(eps, device):
    """What runs where Triton cannot."""
    inputs, grads = make_conv((2, 3, 4, 8), 6, torch.float64, device)
    inputs = [t.requires_grad_() for t in inputs]
    count = 1 + (eps is not None)
    results = conv_gelu_mul(*inputs, eps, 'grouped', torch.tensor([[3, 2], [2, 4]], device=device))[:count]
    both, _, *weights = inputs
    expected = exact_conv(both, *weights, [[3, 2], [2, 4]], eps)[:count]
    torch.testing.assert_close(results, expected)
    gradients = torch.autograd.grad(results, inputs, grads[:count])
    torch.testing.assert_close(gradients, gradients_of_exact(expected, inputs, grads[:count]))
