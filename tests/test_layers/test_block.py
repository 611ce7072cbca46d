"""Norms, channel mixers, residual block and initialisation."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmatconv.layers import MLP, ATConv, Block, ConvGLU, DropPath, LayerNorm2d, LayerScale, RMSNorm2d, initialize


def test_layer_norm_2d_normalises_channels_of_each_pixel():
    norm = LayerNorm2d(5).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    mean, var = x.mean(1, keepdim=True), x.var(1, unbiased=False, keepdim=True)
    expected = (x - mean) / (var + 1e-6).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]
    torch.testing.assert_close(norm(x), expected, rtol=0, atol=1e-13)


def test_rms_norm_2d_does_not_subtract_the_mean():
    norm = RMSNorm2d(5).double()
    nn.init.normal_(norm.weight)
    x = torch.randn(2, 5, 3, 4, dtype=torch.float64) + 3
    expected = x / ((x**2).mean(1, keepdim=True) + 1e-6).sqrt() * norm.weight[:, None, None]
    torch.testing.assert_close(norm(x), expected, rtol=0, atol=1e-13)


def test_rms_norm_2d_survives_large_half_precision_values():
    x = torch.full((1, 4, 2, 2), 6e4, dtype=torch.float16)  # its square is beyond float16
    torch.testing.assert_close(RMSNorm2d(4)(x), torch.ones_like(x), rtol=0, atol=1e-3)


def test_conv_glu_gates_with_the_neighbourhood():
    torch.manual_seed(0)
    mixer = ConvGLU(4, 6).double()
    x = torch.randn(1, 4, 5, 5, dtype=torch.float64)
    hidden = mixer.fc1(x)
    gate, value = hidden[:, :6], hidden[:, 6:]
    product = F.gelu(F.conv2d(gate, mixer.dwconv.weight, mixer.dwconv.bias, padding=1, groups=6)) * value
    expected = mixer.fc2(mixer.norm_layer(product))
    torch.testing.assert_close(mixer(x), expected, rtol=0, atol=1e-13)
    assert list(ConvGLU(4, 6, norm=False).state_dict()) == [
        f'{layer}.{leaf}' for layer in ('fc1', 'dwconv', 'fc2') for leaf in ('weight', 'bias')
    ]


def test_drop_path_drops_whole_samples_and_keeps_the_expectation():
    torch.manual_seed(0)
    layer = DropPath(0.25)
    dropped = layer(torch.ones(4000, 2, 1, 1))
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert torch.equal(dropped[:, 0], dropped[:, 1])
    # Four standard deviations of the mean of 4000 draws.
    assert abs(dropped.mean().item() - 1) < 4 * (0.25 / 0.75 / 4000) ** 0.5
    x = torch.randn(3, 2, 4, 4)
    assert torch.equal(layer.eval()(x), x)


def test_block_adds_both_scaled_branches():
    torch.manual_seed(0)
    block = Block(4, ATConv(4), MLP(4, 8), layer_scale=True).double()
    nn.init.normal_(block.layer_scale_1.gamma)
    nn.init.normal_(block.layer_scale_2.gamma)
    x = torch.randn(1, 4, 6, 6, dtype=torch.float64)
    middle = x + block.layer_scale_1.gamma[:, None, None] * block.token_mixer(block.norm_1(x))
    expected = middle + block.layer_scale_2.gamma[:, None, None] * block.channel_mixer(block.norm_2(middle))
    torch.testing.assert_close(block(x), expected, rtol=0, atol=1e-13)


def test_released_initialisation():
    torch.manual_seed(0)
    block = Block(64, ATConv(64), ConvGLU(64, 128), layer_scale=True)
    initialize(block, 'released')
    assert block.token_mixer.x_proj.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not block.token_mixer.kernel_proj.bias.any()
    assert torch.equal(block.layer_scale_1.gamma, torch.full((64,), 1e-6))


def test_live_initialisation_gives_each_channel_a_kernel():
    torch.manual_seed(0)
    block = Block(64, ATConv(64), ConvGLU(64, 128), layer_scale=True)
    initialize(block, 'live')
    assert block.token_mixer.x_proj.weight.std().item() == pytest.approx(1 / 8, rel=0.1)
    assert block.channel_mixer.dwconv.weight.std().item() == pytest.approx(1 / 3, rel=0.15)
    assert block.token_mixer.kernel_proj.bias.std().item() == pytest.approx(1, rel=0.3)
    assert not block.token_mixer.x_proj.bias.any()
    assert torch.equal(block.layer_scale_1.gamma, torch.ones(64))
    kernels = block.token_mixer.generate_kernels(torch.zeros(1, 64, 8, 8))
    assert kernels.std().item() > 0.1


def test_unknown_initialisation_is_named():
    with pytest.raises(ValueError, match="released, live, but is 'he'"):
        initialize(LayerScale(4), 'he')


@pytest.mark.usefixtures('small_and_large_maps')
@pytest.mark.parametrize('make', [lambda: ConvGLU(6, 10), lambda: ConvGLU(6, 10, norm=False), lambda: MLP(6, 10)])
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('training', [False, True])
def test_channel_mixers_agree_with_float64_on_every_path(make, memory_format, training):
    torch.manual_seed(0)
    mixer = make()
    x = torch.randn(2, 6, 9, 7).contiguous(memory_format=memory_format)
    exact = copy.deepcopy(mixer).double()(x.double())
    with torch.set_grad_enabled(training):
        output = mixer(x)
    assert output.is_contiguous(memory_format=memory_format)
    # Single precision: some ten products and norms of rounding error 6e-8 each.
    assert (output.double() - exact).abs().max() < 2e-6 * exact.abs().max()


@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16])
def test_block_scales_and_drops_in_one_step(dtype):
    torch.manual_seed(0)
    block = Block(4, nn.Identity(), nn.Identity(), drop_path=0.5, layer_scale=True).to(dtype)
    nn.init.normal_(block.layer_scale_1.gamma)
    nn.init.normal_(block.layer_scale_2.gamma)
    x = torch.randn(200, 4, 3, 3, dtype=dtype)
    torch.manual_seed(1)
    output = block(x)
    torch.manual_seed(1)
    first = x + block.drop_path(block.layer_scale_1(block.norm_1(x)))
    expected = first + block.drop_path(block.layer_scale_2(block.norm_2(first)))
    tolerance = 1e-14 if dtype == torch.float64 else 0.05  # a few roundings of 2**-9 on values up to 8
    torch.testing.assert_close(output, expected, rtol=tolerance, atol=tolerance)
    assert output.dtype == dtype
