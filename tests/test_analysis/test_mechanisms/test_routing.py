"""Influence, centroids and the far ratio, on layers whose answer is known."""

import math

import pytest
import torch
from torch import nn

from mmatconv.analysis.mechanisms.layers import BARE, GlobalAttention, bare_layers
from mmatconv.analysis.mechanisms.routing import centroid, far_ratio, influence_map, positions_of, route
from mmatconv.layers import ATConv, initialize
from mmatconv.layers.token_mixers.static_convs import DepthwiseConv


def delta(channels):
    layer = DepthwiseConv(channels)
    nn.init.zeros_(layer.weight)
    layer.weight.data[:, 0, 1, 1] = 3
    return layer


def live(layer):
    torch.manual_seed(0)
    initialize(layer, 'live')
    return layer.eval()


def test_a_delta_kernel_is_influenced_by_one_pixel():
    x = torch.randn(1, 4, 9, 11)
    influence = influence_map(delta(4), x, (3, 7), channel=2)
    assert influence[3, 7] == 3 and influence.count_nonzero() == 1
    assert far_ratio(influence, (3, 7), 0.5) == 0 and centroid(influence, (3, 7)) == (3, 7)


def test_influence_is_the_sum_over_channels_of_absolute_gradients():
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 3, 3, padding=1).double()
    influence = influence_map(layer, torch.randn(1, 3, 7, 8).double(), (2, 4), channel=1)
    expected = torch.zeros(7, 8).double()
    expected[1:4, 3:6] = layer.weight[1].abs().sum(0)
    torch.testing.assert_close(influence, expected, rtol=0, atol=1e-12)


def test_the_far_ratio_counts_what_lies_beyond_the_radius():
    influence = torch.zeros(5, 5)
    influence[2, 2], influence[2, 4], influence[0, 0] = 1, 2, 5
    # Distances 0, 2 and the square root of 8.
    assert far_ratio(influence, (2, 2), 1.9) == 7 / 8
    assert far_ratio(influence, (2, 2), 2) == 5 / 8
    assert far_ratio(influence, (2, 2), 3) == 0
    assert far_ratio(torch.zeros(5, 5), (2, 2), 1) == 0


def test_the_centroid_weighs_influence_by_distance():
    influence = torch.zeros(1, 9)
    influence[0, 4], influence[0, 5], influence[0, 8] = 100, 4, 1
    # Weights 0, 4 * 1 and 1 * 4 of the three.
    assert centroid(influence, (0, 4), share=1.0) == (0, pytest.approx(6.5))
    # A region of two positions leaves the last out.
    assert centroid(influence, (0, 4), share=0.2) == (0, 5)


def test_a_static_convolution_has_no_routing_and_attention_and_atconv_have():
    torch.manual_seed(1)
    x = torch.randn(1, 8, 16, 16)
    positions = positions_of((16, 16), 2)
    assert positions == [(4, 4), (4, 12), (12, 4), (12, 12)]
    static = route(live(DepthwiseConv(8, 7)), x, positions, radius=6)
    assert static.diversity == pytest.approx(0, abs=1e-5) and static.mean_far == 0
    for layer in (live(ATConv(8)), GlobalAttention(8, 2)):
        routing = route(layer, x, positions, radius=6)
        assert routing.diversity > 1 and 0.1 < routing.mean_far < 1


@pytest.mark.parametrize('name', list(BARE))
def test_every_bare_layer_maps_a_feature_map(name):
    (layer,) = bare_layers([name], 16, (16, 16), 0).values()
    x = torch.randn(1, 16, 16, 16)
    influence = influence_map(layer, x, (5, 6), 3)
    assert layer(x).shape == x.shape and influence.max() > 0 and math.isfinite(float(influence.sum()))
