"""mmdet's attention as token mixers: values of mmdet's own classes, no residual, shapes that do not fit windows."""

import sys

import pytest
import torch
from mmdet.models.backbones import pvt, swin

from mmatconv import UserError
from mmatconv.backbones.attention_adapters import SpatialReductionAttention, WindowAttention

FORMATS = [torch.contiguous_format, torch.channels_last]


def spatial_reduction():
    own = pvt.SpatialReductionAttention(12, 3, sr_ratio=2, norm_cfg=dict(type='LN', eps=1e-6))
    return SpatialReductionAttention(12, num_heads=3, sr_ratio=2), own, 1


def plain_attention():
    return SpatialReductionAttention(12, num_heads=2), pvt.SpatialReductionAttention(12, 2), 1


def window():
    return WindowAttention(12, num_heads=3, window_size=4, block=2), swin.ShiftWindowMSA(12, 3, 4), 0


def shifted_window():
    return WindowAttention(12, num_heads=3, window_size=5, block=1), swin.ShiftWindowMSA(12, 3, 5, shift_size=2), 0


@pytest.mark.parametrize('memory_format', FORMATS)
@pytest.mark.parametrize(('height', 'width'), [(8, 12), (7, 11)])
@pytest.mark.parametrize('build', [spatial_reduction, plain_attention, window, shifted_window])
def test_values_are_mmdets_without_the_residual(build, height, width, memory_format):
    torch.manual_seed(0)
    mixer, own, residual = (part.double() if isinstance(part, torch.nn.Module) else part for part in build())
    for parameter in mixer.parameters():
        torch.nn.init.normal_(parameter)
    own.load_state_dict(mixer.attention.state_dict())
    x = torch.randn(2, 12, height, width, dtype=torch.float64)
    tokens = torch.stack([x[:, :, i, j] for i in range(height) for j in range(width)], dim=1)
    expected = own(tokens, (height, width)) - residual * tokens
    output = mixer(x.contiguous(memory_format=memory_format))
    for i in range(height):
        for j in range(width):
            torch.testing.assert_close(output[:, :, i, j], expected[:, i * width + j], rtol=0, atol=1e-12)


@pytest.mark.parametrize('build', [spatial_reduction, plain_attention, window, shifted_window])
def test_gradients_reach_every_parameter_also_under_autocast(build):
    torch.manual_seed(0)
    mixer = build()[0]
    for parameter in mixer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x = torch.randn(2, 12, 8, 9)
    exact = mixer(x)
    with torch.autocast('cpu', torch.bfloat16):
        output = mixer(x)
    assert ((output - exact).norm() / exact.norm()).item() < 0.1
    output.float().square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in mixer.parameters())


def test_the_table_of_position_biases_starts_as_swins():
    torch.manual_seed(0)
    table = WindowAttention(32, num_heads=8).attention.w_msa.relative_position_bias_table
    assert table.shape == (13 * 13, 8)
    assert 0.015 < table.std().item() < 0.025


@pytest.mark.parametrize('mixer', [SpatialReductionAttention, WindowAttention])
def test_heads_must_divide_the_channels(mixer):
    with pytest.raises(UserError, match='num_heads must divide the 10 channels of the token mixer, but is 4'):
        mixer(10, num_heads=4)


@pytest.mark.parametrize(('mixer', 'module'), [(SpatialReductionAttention, 'pvt'), (WindowAttention, 'swin')])
def test_without_mmdet_the_message_says_what_to_install(mixer, module, monkeypatch):
    monkeypatch.setitem(sys.modules, f'mmdet.models.backbones.{module}', None)
    with pytest.raises(UserError, match=r"mmdet cannot be imported .*; install it with 'pip"):
        mixer(8, num_heads=2)
