"""The attentions of the paper's figure 4 against attention over all pairs of positions, as few as there are."""

import pytest
import torch
import torch.nn.functional as F

from mmatconv import UserError
from mmatconv.layers.token_mixers.cross_shaped import CrossShapedAttention
from mmatconv.layers.token_mixers.grid_attention import GridAttention
from mmatconv.layers.token_mixers.pooling_attention import PoolingAttention

from .plain_attention import all_pairs, coordinates, project, same, swin_bias, to_map, tokens_of


def padded(x, height, width):
    return F.pad(x, (0, -x.shape[3] % width, 0, -x.shape[2] % height))


def plain_grid(layer, x):
    grid, size = layer.grid_size, x.shape[2:]
    x = padded(x, grid, grid)
    steps = [side // grid for side in x.shape[2:]]
    rows, columns = coordinates(*x.shape[2:])
    q, k, v = project(tokens_of(x), layer.qkv).chunk(3, 2)
    allowed = same(rows % steps[0], columns % steps[1])
    bias = swin_bias(layer.relative_position_bias_table, rows // steps[0], columns // steps[1], grid)
    attended = all_pairs(q, k, v, layer.num_heads, allowed, bias)
    return to_map(project(attended, layer.proj), x.shape[2:])[:, :, : size[0], : size[1]]


def plain_cross(layer, x):
    (height, width), half = x.shape[2:], x.shape[1] // 2
    whole = max(height, width) <= layer.stripe
    qkv = project(tokens_of(x), layer.qkv)
    maps = [to_map(part, (height, width)) for part in qkv.chunk(3, 2)]
    outputs = []
    for index, axis in enumerate((2, 3)):
        stripe = [height, width]
        if not whole:
            stripe[index] = layer.stripe
        channels = slice(index * half, (index + 1) * half)
        q, k, v = (padded(part[:, channels], *stripe) for part in maps)
        rows, columns = coordinates(*q.shape[2:])
        allowed = same((rows, columns)[index] // stripe[index])
        attended = to_map(all_pairs(*map(tokens_of, (q, k, v)), layer.num_heads // 2, allowed), q.shape[2:])
        local = [
            F.conv2d(part, layer.lepe.weight[channels], layer.lepe.bias[channels], padding=1, groups=half)
            for part in v.split(stripe[index], axis)
        ]
        outputs.append((attended + torch.cat(local, axis))[:, :, :height, :width])
    return to_map(project(tokens_of(torch.cat(outputs, 1)), layer.proj), (height, width))


def plain_pooling(layer, x):
    rows, columns = x.shape[2:]
    bins = [
        [(i * side // layer.pool_size, -(-(i + 1) * side // layer.pool_size)) for i in range(layer.pool_size)]
        for side in (rows, columns)
    ]
    means = [x[:, :, a:b, c:d].mean((2, 3)) for a, b in bins[0] for c, d in bins[1]]
    pooled = project(torch.stack(means, 1), layer.sr)
    pooled = F.gelu(F.layer_norm(pooled, pooled.shape[2:], layer.norm.weight, layer.norm.bias, 1e-5))
    k, v = project(pooled, layer.kv).chunk(2, 2)
    attended = all_pairs(project(tokens_of(x), layer.q), k, v, layer.num_heads)
    return to_map(project(attended, layer.proj), x.shape[2:])


MIXERS = {
    'grid': (lambda: GridAttention(12, 3, grid_size=4), plain_grid),
    'cross': (lambda: CrossShapedAttention(12, 2, stripe=3), plain_cross),
    'pooling': (lambda: PoolingAttention(12, 3, pool_size=3), plain_pooling),
}


@pytest.mark.parametrize('size', [(5, 7), (8, 12), (2, 3)])
@pytest.mark.parametrize('name', MIXERS)
def test_values_and_gradients_are_those_of_the_plain_formula(name, size):
    build, plain = MIXERS[name]
    torch.manual_seed(0)
    layer = build().double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x = torch.randn(2, 12, *size, dtype=torch.float64).requires_grad_()
    expected = plain(layer, x)
    weight = torch.randn_like(expected)
    wanted = torch.autograd.grad((expected * weight).sum(), [x, *layer.parameters()])
    for memory_format in (torch.contiguous_format, torch.channels_last):
        given = x.detach().clone(memory_format=memory_format).requires_grad_()
        output = layer(given)
        torch.testing.assert_close(output, expected, rtol=1e-11, atol=1e-11)
        for grad, other in zip(torch.autograd.grad((output * weight).sum(), [given, *layer.parameters()]), wanted):
            torch.testing.assert_close(grad, other, rtol=1e-10, atol=1e-10)
    with torch.autocast('cpu', torch.bfloat16):
        assert layer.float()(x.detach().float()).dtype == torch.bfloat16


def test_maxvit_has_32_channels_a_head():
    assert GridAttention(96).num_heads == 3


@pytest.mark.parametrize(
    ('build', 'message'),
    [
        (lambda: GridAttention(16), 'num_heads must divide the 16 channels of the token mixer, but is 0'),
        (lambda: PoolingAttention(10, 4), 'num_heads must divide the 10 channels of the token mixer, but is 4'),
        (lambda: CrossShapedAttention(9, 3), 'num_heads must be even for two kinds of stripes, but is 3'),
    ],
)
def test_wrong_options_are_named(build, message):
    with pytest.raises(UserError, match=message):
        build()
