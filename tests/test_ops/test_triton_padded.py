"""The pooling of padded maps in Triton and in its fallback against each map alone, on a GPU or in the interpreter."""

import pytest
import torch
import torch.nn.functional as F
from torch.library import opcheck

from mmatconv import AttNet
from mmatconv.layers.atconv import ATConv
from mmatconv.layers.padding_mask import PaddingMask
from mmatconv.ops.context_to_kernel.function import context_pool
from mmatconv.ops.sum_dtype import sum_dtype

pytestmark = [pytest.mark.usefixtures('forced'), *([pytest.mark.gpu] if torch.cuda.is_available() else [])]
FORMATS = [torch.contiguous_format, torch.channels_last]
# Shape, K, sizes: fewer pixels than bins, one pixel, bins that fit and that overlap, no padding, padding on one side.
CASES = [
    ((3, 5, 7, 9), 3, [[7, 9], [4, 5], [1, 1]]),
    ((2, 40, 6, 5), 5, [[2, 5], [6, 3]]),
    ((1, 8, 6, 11), 1, [[6, 9]]),
]
if torch.cuda.is_available():
    CASES += [((3, 288, 50, 84), 3, [[50, 84], [37, 61], [13, 84]]), ((2, 48, 57, 33), 7, [[57, 20], [3, 33]])]
UNITS = {torch.float64: 16, torch.float32: 16, torch.float16: 1, torch.bfloat16: 1}


def make(*shape, dtype=torch.float32, device='cpu'):
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)


def alone(x, grad, size, grid, sizes):
    """Pooled means and gradient of every map without its padding, in float64; the gradient is zero in the padding."""
    means, gradients = [], []
    for image, g, (height, width) in zip(x.double().cpu(), grad.double().cpu(), sizes):
        valid = image[None, :, :height, :width].clone().requires_grad_()
        mean = (
            F.adaptive_avg_pool2d(valid, size) if grid else F.adaptive_avg_pool1d(valid.flatten(2), size**2)
        ).flatten(2)
        gradients.append(
            F.pad(torch.autograd.grad(mean, valid, g[None])[0], (0, x.shape[3] - width, 0, x.shape[2] - height))
        )
        means.append(mean.detach())
    return torch.cat(means), torch.cat(gradients)


def check(x, size, grid, sizes, assert_exact, path='triton'):
    x, on_device = x.detach().requires_grad_(), torch.tensor(sizes, dtype=torch.int32, device=x.device)
    if path == 'triton':
        with torch.no_grad():  # which nobody may read
            x.masked_fill_(~PaddingMask(on_device, x.shape[2:]).valid(), torch.nan)
    output, same = context_pool(x, size, grid, path, on_device)
    grad = make(*output.shape, dtype=output.dtype, device=x.device)
    (gradient,) = torch.autograd.grad(output, x, grad, retain_graph=True)
    assert (output.dtype, gradient.dtype) == (sum_dtype(x), x.dtype) and gradient.stride() == torch.empty_like(
        x
    ).stride()
    mean, exact = alone(x.detach(), grad, size, grid, sizes)
    assert_exact((output,), (mean,), UNITS[output.dtype])
    assert_exact((gradient,), (exact,), UNITS[x.dtype], ['grad input'])
    # What comes from other readers of the map is kept in the padding too.
    grad_map = make(*x.shape, dtype=x.dtype, device=x.device)
    (gradient,) = torch.autograd.grad((output, same), x, (grad, grad_map))
    assert_exact((gradient,), (exact + grad_map.double().cpu(),), UNITS[x.dtype], ['grad input of both'])


@pytest.mark.parametrize('grid', [False, True])
@pytest.mark.parametrize('memory_format', FORMATS)
@pytest.mark.parametrize(('shape', 'size', 'sizes'), CASES)
def test_each_map_as_alone(shape, size, sizes, memory_format, grid, device, poisoned, assert_exact):
    check(make(*shape, device=device).contiguous(memory_format=memory_format), size, grid, sizes, assert_exact)


@pytest.mark.parametrize('grid', [False, True])
@pytest.mark.parametrize('memory_format', FORMATS)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes(dtype, memory_format, grid, device, poisoned, assert_exact):
    x = make(2, 8, 5, 7, dtype=dtype, device=device).contiguous(memory_format=memory_format)
    check(x, 3, grid, [[5, 6], [2, 7]], assert_exact)


@pytest.mark.parametrize('grid', [False, True])
@pytest.mark.parametrize('memory_format', FORMATS)
@pytest.mark.parametrize('programs', [1, 40])
def test_many_tiles(programs, memory_format, grid, device, poisoned, assert_exact, monkeypatch):
    from mmatconv.ops.context_to_kernel import triton_launch

    monkeypatch.setattr(triton_launch, 'PROGRAMS', programs)
    monkeypatch.setattr(triton_launch, 'FEWEST_TILES', 1)
    monkeypatch.setattr(triton_launch, 'POOL_ELEMENTS', 1)
    monkeypatch.setattr(triton_launch, 'SPREAD_ELEMENTS', 1)
    for plan in ('_pool', '_spread'):  # no plans of before
        monkeypatch.setattr(triton_launch, plan, getattr(triton_launch, plan).__wrapped__)
    x = make(2, 3, 23, 35, device=device)[:, 1:].contiguous(memory_format=memory_format)
    check(x, 3, grid, [[22, 1], [7, 35]], assert_exact)


@pytest.mark.parametrize('grid', [False, True])
def test_of_views(grid, device, poisoned, assert_exact):
    x = make(2, 6, 7, 8, device=device)
    for view in (x[:, 1:4, :, 1:], x[..., ::2].detach(), x.contiguous(memory_format=torch.channels_last)[:, 1:5, 1:]):
        sizes = torch.tensor([[3, 3], [6, 4]], dtype=torch.int32, device=device)
        leaf = view.detach().requires_grad_()
        output, _ = context_pool(leaf, 3, grid, 'triton', sizes)
        grad = make(*output.shape, device=device)
        expected = alone(view, grad, 3, grid, sizes.tolist())
        assert_exact((output, torch.autograd.grad(output, leaf, grad)[0]), expected, 16)


@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16])
@pytest.mark.parametrize('grid', [False, True])
@pytest.mark.parametrize('memory_format', FORMATS)
def test_torch_computes_the_same(memory_format, grid, dtype, device, assert_exact):
    """What runs where Triton cannot."""
    x = make(3, 4, 7, 9, dtype=dtype, device=device).contiguous(memory_format=memory_format)
    check(x, 3, grid, [[7, 9], [4, 5], [1, 2]], assert_exact, 'grouped')


@pytest.mark.parametrize('grid', [False, True])
def test_to_any_order(grid, device):
    x = make(2, 1, 3, 4, dtype=torch.float64, device=device).requires_grad_()
    sizes = torch.tensor([[3, 3], [2, 4]], dtype=torch.int32, device=device)

    def pool(x):
        return context_pool(x, 3, grid, 'triton', sizes)

    assert torch.autograd.gradcheck(pool, x, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: [result**2 for result in pool(x)], x, fast_mode=True)


def test_are_sound_operators(device):
    x = make(2, 3, 4, 5, device=device).contiguous(memory_format=torch.channels_last).requires_grad_()
    sizes = torch.tensor([[4, 3], [2, 5]], dtype=torch.int32, device=device)
    opcheck(torch.ops.mmatconv.context_pool, (x, 3, False, 'triton', sizes))
    grad = make(2, 3, 9, device=device).requires_grad_()
    arguments = grad, 4, 5, True, torch.float32, 3, True, 'triton', sizes
    opcheck(torch.ops.mmatconv.context_pool_backward, arguments)


@pytest.mark.parametrize('pool', ['flat', 'grid'])
def test_the_layer_takes_it(pool, device, monkeypatch):
    torch.manual_seed(0)
    layer = ATConv(4, context_pool=pool).to(device)
    x = make(2, 4, 7, 6, device=device).contiguous(memory_format=torch.channels_last).requires_grad_()
    padding_mask = PaddingMask(torch.tensor([[7, 4], [3, 6]], dtype=torch.int32, device=device), (7, 6))
    calls = []
    monkeypatch.setattr('mmatconv.layers.atconv.context_pool', lambda *a: calls.append(a[-1]) or context_pool(*a))
    zero_padding = PaddingMask.zero_padding
    monkeypatch.setattr(PaddingMask, 'zero_padding', lambda *a, **o: calls.append('zero') or zero_padding(*a, **o))
    results = {}
    for path in ('triton', 'grouped'):
        monkeypatch.setenv('MMATCONV_OP', path)
        output = torch.where(padding_mask.valid(), layer(x, padding_mask), 0)
        results[path] = output, *torch.autograd.grad(output.square().sum(), [x, *layer.parameters()])
    # No pass over the map goes into its padding.
    assert len(calls) == 2 and calls[0] is padding_mask.sizes and calls[1] == 'zero'
    for one, other in zip(*results.values()):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_backbone(device, monkeypatch):
    """Features and gradients of a padded batch in Triton against each image alone in torch's operations."""
    torch.manual_seed(0)
    arch = dict(depths=[1, 1], dims=[4, 6], exp_rates=2)
    model = AttNet(arch, init='live', mask_padding=True, drop_path_rate=0.0).double().to(device).eval()
    batch = make(2, 3, 37, 41, dtype=torch.float64, device=device)
    batch[1, :, 32:] = batch[1, :, :, 35:] = 0
    parameters = [p for p in model.parameters() if p.requires_grad]
    together = model(batch)
    gradients = torch.autograd.grad(sum(output.square().sum() for output in together), parameters)
    monkeypatch.setenv('MMATCONV_OP', 'grouped')
    alone = [model(batch[:1]), model(batch[1:, :, :32, :35])]
    expected = torch.autograd.grad(sum(output.square().sum() for maps in alone for output in maps), parameters)
    for i, maps in enumerate(alone):
        for output, image in zip(together, maps):
            found = output[i : i + 1, :, : image.shape[2], : image.shape[3]]
            torch.testing.assert_close(found, image, rtol=1e-10, atol=1e-10)
    for found, gradient in zip(gradients, expected):
        torch.testing.assert_close(found, gradient, rtol=1e-9, atol=1e-9 * float(gradient.abs().max()))
