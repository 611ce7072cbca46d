"""Suppression, contrast and effective rank, on maps and layers whose answer is known."""

import math

import pytest
import torch
from torch import nn

from mmatconv.analysis.mechanisms.inhibition import (
    centre_surround_contrast,
    channel_effective_rank,
    gaussian_blur,
    suppression,
    without_modulation,
)
from mmatconv.layers import ATConv
from mmatconv.layers.token_mixers.static_convs import DepthwiseConv


def depthwise(kernel):
    layer = DepthwiseConv(2)
    nn.init.zeros_(layer.bias)
    layer.weight.data[:] = torch.tensor(kernel)
    return layer


def test_suppression_of_a_surround_kernel():
    torch.manual_seed(0)
    x = torch.randn(1, 2, 7, 7)
    response = suppression(depthwise([[0.0, -1, 0], [-1, 4, -1], [0, -1, 0]]), x, [(3, 3)], strength=2)
    # Each of the four neighbours falls by the raise, in both channels.
    expected = torch.zeros(7, 7)
    for row, column in ((2, 3), (4, 3), (3, 2), (3, 4)):
        expected[row, column] = 2 * 2 * x.std()
    torch.testing.assert_close(response, expected, rtol=1e-4, atol=1e-5)


def test_excitation_is_not_suppression():
    x = torch.randn(1, 2, 7, 7)
    assert suppression(depthwise([[1.0, 1, 1]] * 3), x, [(3, 3), (1, 5)]).max() < 1e-5
    assert suppression(depthwise([[0.0, 0, 0], [0, -1, 0], [0, 0, 0]]), x, [(3, 3)]).max() == 0


def test_the_blur_keeps_constants_and_is_a_gaussian():
    torch.testing.assert_close(gaussian_blur(torch.full((1, 3, 4, 5), 2.5)), torch.full((1, 3, 4, 5), 2.5))
    point = torch.zeros(1, 1, 15, 15).double()
    point[0, 0, 7, 7] = 1
    blurred = gaussian_blur(point, 1.5)[0, 0]
    assert float(blurred.sum()) == pytest.approx(1)
    assert float(blurred[7, 9] / blurred[7, 7]) == pytest.approx(math.exp(-4 / (2 * 1.5**2)))
    assert float(blurred[9, 7]) == pytest.approx(float(blurred[7, 9]))


def test_contrast():
    assert centre_surround_contrast(torch.full((1, 2, 8, 8), 3.3)) == 0
    assert centre_surround_contrast(torch.zeros(1, 2, 8, 8)) == 0
    board = (torch.arange(16)[:, None] + torch.arange(16)[None]).remainder(2).double() * 2 - 1
    # The blur of a chessboard is nearly nothing, so nearly all of it is contrast.
    assert centre_surround_contrast(board[None, None], 2.0) == pytest.approx(1, abs=0.05)
    smooth = torch.linspace(1, 2, 16).expand(1, 1, 16, 16)
    assert 0 < centre_surround_contrast(smooth) < 0.01


@pytest.mark.parametrize('scale', [1.0, 1e-3])
def test_effective_rank(scale):
    torch.manual_seed(0)
    columns = torch.randn(64, 6).double()
    columns = torch.linalg.qr(columns - columns.mean(0)).Q
    white = columns.T.reshape(1, 6, 8, 8) * scale
    assert channel_effective_rank(white) == pytest.approx(1)
    one = torch.randn(1, 1, 8, 8) * torch.arange(1.0, 7).reshape(1, 6, 1, 1) * scale
    assert channel_effective_rank(one) == pytest.approx(1 / 6)
    assert channel_effective_rank(white[:, [0, 1, 2, 0, 1, 2]]) == pytest.approx(1 / 2)
    assert channel_effective_rank(torch.ones(1, 6, 8, 8)) == 0


def test_without_modulation_lambda_is_zero():
    torch.manual_seed(0)
    layer = ATConv(6).eval()
    nn.init.normal_(layer.difference_control)
    nn.init.normal_(layer.kernel_proj.bias)
    x = torch.randn(2, 6, 9, 7)
    before = layer(x)
    plain = without_modulation(layer, x)
    assert not torch.allclose(plain, before, atol=1e-6) and torch.equal(layer(x), before)
    layer.modulate = lambda kernels: kernels
    torch.testing.assert_close(layer(x), plain, rtol=1e-5, atol=1e-7)
