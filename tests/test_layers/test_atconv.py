"""ATConv against the order of operations of the paper and of the released code."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from mmatconv import ATConv
from mmatconv.layers.context_pool import flat_pool

DATA = Path(__file__).parents[1] / 'data'
FORMATS = [torch.contiguous_format, torch.channels_last]


def paper_order(layer, x):
    """Projection of the whole map, then pooling, with each step written out."""
    batch, channels = x.shape[:2]
    size = layer.kernel_size
    projected = layer.kernel_proj(x)
    if layer.context_pool == 'flat':
        context = F.adaptive_avg_pool1d(projected.reshape(batch, channels, -1), size**2)
    else:
        context = F.adaptive_avg_pool2d(projected, (size, size)).reshape(batch, channels, -1)
    kernels = F.linear(F.gelu(context), layer.kernel_gen.weight, layer.kernel_gen.bias)
    kernels = kernels - torch.sigmoid(layer.difference_control)[None, :, None] * kernels.mean(-1, keepdim=True)
    columns = F.unfold(layer.x_proj(x), size, padding=size // 2).reshape(batch, channels, size**2, -1)
    return layer.proj((columns * kernels[..., None]).sum(2).reshape(x.shape))


def gradients(layer, forward, x):
    output = forward(x)
    weight = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).reshape(output.shape)
    return output, torch.autograd.grad((output * weight).sum(), [x, *layer.parameters()])


@pytest.mark.usefixtures('small_and_large_maps')
@pytest.mark.parametrize('memory_format', FORMATS)
@pytest.mark.parametrize('context_pool', ['flat', 'grid'])
@pytest.mark.parametrize(('size', 'height', 'width'), [(3, 8, 8), (3, 5, 13), (5, 7, 9), (7, 6, 4), (3, 2, 2)])
def test_pooling_first_changes_nothing(size, height, width, context_pool, memory_format):
    torch.manual_seed(0)
    layer = ATConv(6, size, context_pool=context_pool).double()
    torch.nn.init.normal_(layer.difference_control)
    x = torch.randn(2, 6, height, width, dtype=torch.float64).contiguous(memory_format=memory_format).requires_grad_()
    output, grads = gradients(layer, layer, x)
    expected, expected_grads = gradients(layer, lambda x: paper_order(layer, x), x)
    # The two orders differ by rounding only: 1e-16 times the length of the sums.
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-12)
    for grad, expected_grad in zip(grads, expected_grads):
        torch.testing.assert_close(grad, expected_grad, rtol=1e-11, atol=1e-11)


def test_kernels_follow_the_image():
    torch.manual_seed(0)
    layer = ATConv(4)
    kernels = layer.generate_kernels(torch.randn(2, 4, 6, 6))
    assert kernels.shape == (2, 4, 3, 3)
    assert (kernels[0] - kernels[1]).abs().max() > 1e-3


def test_a_control_of_plus_infinity_removes_the_kernel_mean():
    layer = ATConv(4)
    torch.nn.init.constant_(layer.difference_control, 100.0)
    kernels = layer.generate_kernels(torch.randn(2, 4, 6, 6))
    torch.testing.assert_close(kernels.mean((2, 3)), torch.zeros(2, 4), rtol=0, atol=1e-6)


@pytest.mark.usefixtures('small_and_large_maps')
@pytest.mark.parametrize('count', [1, 5, 9, 10, 49, 100])
@pytest.mark.parametrize('size', [3, 5])
def test_flat_pool_has_torchs_bins_in_both_formats(count, size):
    x = torch.randn(2, 3, count, 3, dtype=torch.float64)
    expected = F.adaptive_avg_pool1d(x.flatten(2), size**2)
    for memory_format in FORMATS:
        pooled = flat_pool(x.contiguous(memory_format=memory_format), size)
        torch.testing.assert_close(pooled, expected, rtol=0, atol=1e-14)


def test_shapes_without_numbers_leave_nothing_behind():
    """The bins of a map are kept between calls; those of a fake tensor have no numbers."""
    x = torch.randn(1, 4, 29, 31).contiguous(memory_format=torch.channels_last).requires_grad_()
    with FakeTensorMode() as mode:
        assert flat_pool(mode.from_tensor(x), 3).shape == (1, 4, 9)
    expected = F.adaptive_avg_pool1d(x.flatten(2), 9)
    torch.testing.assert_close(flat_pool(x, 3), expected)


def test_state_dict_is_the_released_one():
    released = json.loads((DATA / 'official_state_dicts.json').read_text())['T2']
    prefix = 'stages.2.0.token_mixer.'
    expected = {name[len(prefix) :]: tuple(shape) for name, shape in released.items() if name.startswith(prefix)}
    assert {name: tuple(value.shape) for name, value in ATConv(288).state_dict().items()} == expected


def test_without_biases_only_weights_and_control_remain():
    names = set(ATConv(4, bias=False).state_dict())
    assert names == {
        'difference_control', 'kernel_proj.weight', 'kernel_gen.weight', 'x_proj.weight', 'proj.weight',
    }  # fmt: skip


def test_bfloat16_autocast_stays_near_float32():
    torch.manual_seed(0)
    layer = ATConv(16)
    x = torch.randn(2, 16, 12, 12, requires_grad=True)
    exact = layer(x)
    with torch.autocast('cpu', torch.bfloat16):
        output = layer(x)
        output.float().square().mean().backward()
    assert output.dtype == torch.bfloat16
    # Three projections and a convolution in bfloat16 (unit 2**-8), errors adding up.
    assert ((output - exact).norm() / exact.norm()).item() < 4 * 2**-8
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters())


@pytest.mark.parametrize(
    ('options', 'named'),
    [
        (dict(kernel_size=4), '4'),
        (dict(kernel_size=-1), '-1'),
        (dict(context_pool='strips'), "flat, grid, but is 'strips'"),
    ],
)
def test_wrong_options_are_named(options, named):
    with pytest.raises(ValueError, match=named):
        ATConv(8, **options)
