"""The token mixers of table IX against plain formulas over all pairs of tokens, and against the counts of the table."""

import math

import pytest
import torch
import torch.nn.functional as F
from mmengine.analysis.complexity_analysis import FlopAnalyzer

from mmatconv import ATConv, UserError
from mmatconv.layers.token_mixers.atconv_kernels import KERNELS, ATConvKernels
from mmatconv.layers.token_mixers.atconv_step import STEPS, ATConvStep
from mmatconv.layers.token_mixers.hydra import HydraAttention
from mmatconv.layers.token_mixers.inline import InLineAttention
from mmatconv.layers.token_mixers.rank_aug import RankAugAttention
from mmatconv.layers.token_mixers.static_convs import Conv, DepthwiseConv, ProjectedDepthwiseConv
from mmatconv.ops import reference

FORMATS = [torch.contiguous_format, torch.channels_last]
T2 = dict(depths=(3, 3, 16, 3), dims=(64, 128, 288, 512), sides=(56, 28, 14, 7))


def linear(x, projection):
    """(B, C, H, W) -> (B, N, D) by the weights of a 1x1 convolution, or by none."""
    tokens = x.flatten(2).transpose(1, 2)
    if isinstance(projection, torch.nn.Identity):
        return tokens
    output = tokens @ projection.weight[:, :, 0, 0].T
    return output if projection.bias is None else output + projection.bias


def to_map(tokens, x):
    return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, *x.shape[2:])


def heads_of(tokens, heads):
    """(B, N, C) -> B * heads matrices (N, d), in the order of torch.stack."""
    return [head for sample in tokens for head in sample.chunk(heads, dim=1)]


def all_pairs(q, k, v, heads, weights):
    """Attention head by head: ``weights(q, k)`` of (N, d) matrices is the N x N matrix of attention weights."""
    outputs = [weights(a, b) @ c for a, b, c in zip(*(heads_of(tokens, heads) for tokens in (q, k, v)))]
    return torch.stack([torch.cat(outputs[i : i + heads], dim=1) for i in range(0, len(outputs), heads)])


def plain_conv(layer, x):
    columns = F.unfold(x, layer.kernel_size, padding=layer.padding)
    return (layer.weight.flatten(1) @ columns + layer.bias[:, None]).reshape(x.shape)


def plain_depthwise(layer, x):
    return reference(x, layer.weight.transpose(0, 1).expand(len(x), -1, -1, -1)) + layer.bias[:, None, None]


def plain_projected_depthwise(layer, x):
    convolved = plain_depthwise(layer.conv, to_map(linear(x, layer.x_proj), x))
    return to_map(linear(convolved, layer.proj), x)


def plain_hydra(layer, x):
    q, k, v = linear(x, layer.qkv).chunk(3, dim=2)
    q, k = (t / t.square().sum(2, keepdim=True).sqrt() for t in (q, k))
    attended = all_pairs(q, k, v, x.shape[1], lambda q, k: q @ k.T)
    return to_map(linear(to_map(attended, x), layer.proj), x)


def plain_inline(layer, x):
    def weights(q, k):
        similarity = q @ k.T / math.sqrt(q.shape[1])
        return (1 + similarity - similarity.mean(1, keepdim=True)) / len(k)

    q, k, v = linear(x, layer.qkv).chunk(3, dim=2)
    attended = to_map(all_pairs(q, k, v, layer.num_heads, weights), x)
    kernels = []
    for sample in x.mean((2, 3)):
        rows = [sample.chunk(layer.num_heads), *(
            parameter.chunk(layer.num_heads)
            for index in (0, 2)
            for parameter in (layer.residual[index].weight[:, :, 0, 0], layer.residual[index].bias)
        )]  # fmt: skip
        kernels.append(torch.cat([w2 @ F.gelu(w1 @ mean + b1) + b2 for mean, w1, b1, w2, b2 in zip(*rows)]))
    value = to_map(v, x)
    local = reference(value, torch.stack(kernels).reshape(*x.shape[:2], 3, 3)) + plain_depthwise(layer.lepe, value)
    return to_map(linear(attended + local, layer.proj), x)


def plain_rank_aug(layer, x):
    def weights(q, k):
        q, k = (torch.where(t > 0, t + 1, t.exp()) for t in (q, k))
        importance = torch.softmax(k @ q.mean(0) / math.sqrt(q.shape[1]), dim=0)
        similarity = q @ k.T * importance
        return similarity / (similarity.sum(1, keepdim=True) + 1e-6)

    q, k, v, gate = linear(x, layer.qkvo).chunk(4, dim=2)
    attended = all_pairs(q, k, v, layer.num_heads, weights)
    mixed = (to_map(attended, x) + plain_depthwise(layer.lepe, to_map(v, x))) * to_map(gate, x)
    return to_map(linear(mixed, layer.proj), x)


def plain_generated(layer, x):
    """(B, C, K * K), context-to-kernel."""
    context = F.adaptive_avg_pool1d(layer.kernel_proj(x).flatten(2), layer.kernel_size**2)
    return F.gelu(context) @ layer.kernel_gen.weight.T + layer.kernel_gen.bias


def plain_modulated(layer, kernels):
    """(B, C, K * K) or (C, K * K), differential kernel modulation."""
    return kernels - torch.sigmoid(layer.difference_control)[:, None] * kernels.mean(-1, keepdim=True)


def plain_kernels(layer, x):
    """(B, C, K * K); with 'biases' by the shapes of the docstring, with factors for each channel."""
    if layer.kernels == 'biases':
        shapes = F.gelu(layer.kernel_proj.bias)[:, None] * layer.kernel_gen.weight.sum(1) + layer.kernel_gen.bias
        return plain_modulated(layer, shapes).expand(len(x), -1, -1)
    return plain_modulated(layer, plain_generated(layer, x)) + layer.static_kernel.flatten(1)


def plain_kernels_mixer(layer, x):
    size = (layer.kernel_size, layer.kernel_size)
    convolved = reference(to_map(linear(x, layer.x_proj), x), plain_kernels(layer, x).unflatten(2, size))
    return to_map(linear(convolved, layer.proj), x)


def plain_step(layer, x):
    kernels = plain_generated(layer, x)
    if layer.step == 'softmax':
        kernels = kernels.exp() / kernels.exp().sum(2, keepdim=True)
    elif layer.step == 'kernel_difference':
        kernels = kernels - kernels.mean(2, keepdim=True)
    elif layer.step == 'differential_modulation':
        kernels = plain_modulated(layer, kernels)
    size = (layer.kernel_size, layer.kernel_size)
    convolved = reference(to_map(linear(x, layer.x_proj), x), kernels.unflatten(2, size))
    return to_map(linear(convolved, layer.proj), x)


MIXERS = {
    'Conv': (lambda: Conv(12, 5), plain_conv),
    'DepthwiseConv': (lambda: DepthwiseConv(12, 7), plain_depthwise),
    'HydraAttention': (lambda: HydraAttention(12), plain_hydra),
    'InLineAttention': (lambda: InLineAttention(12, num_heads=3), plain_inline),
    'RankAugAttention': (lambda: RankAugAttention(12, num_heads=3), plain_rank_aug),
    'ProjectedDepthwiseConv': (lambda: ProjectedDepthwiseConv(12, 5), plain_projected_depthwise),
    **{step: (lambda step=step: ATConvStep(12, step), plain_step) for step in STEPS},
    **{kernels: (lambda kernels=kernels: ATConvKernels(12, kernels), plain_kernels_mixer) for kernels in KERNELS},
}


def seeded(build, dtype=torch.float64):
    """A mixer with parameters large enough that every term of its formula shows."""
    torch.manual_seed(0)
    layer = build().to(dtype)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return layer


def trained(layer):
    return [parameter for parameter in layer.parameters() if parameter.requires_grad]


@pytest.mark.parametrize('memory_format', FORMATS)
@pytest.mark.parametrize(('height', 'width'), [(5, 7), (8, 3), (1, 1)])
@pytest.mark.parametrize('name', MIXERS)
def test_values_and_gradients_are_those_of_the_plain_formula(name, height, width, memory_format):
    build, plain = MIXERS[name]
    layer = seeded(build)
    x = torch.randn(2, 12, height, width, dtype=torch.float64)
    expected = plain(layer, x)
    given = x.contiguous(memory_format=memory_format).requires_grad_()
    output = layer(given)
    torch.testing.assert_close(output, expected, rtol=1e-11, atol=1e-11)
    inputs = [x.requires_grad_(), *trained(layer)]
    weight = torch.randn_like(expected)
    expected_grads = torch.autograd.grad((plain(layer, x) * weight).sum(), inputs)
    grads = torch.autograd.grad((output * weight).sum(), [given, *inputs[1:]])
    for grad, expected_grad in zip(grads, expected_grads):
        torch.testing.assert_close(grad, expected_grad, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('name', MIXERS)
def test_a_gradient_reaches_every_parameter(name):
    layer = seeded(MIXERS[name][0])
    layer(torch.randn(2, 12, 6, 5, dtype=torch.float64)).square().sum().backward()
    assert all(parameter.grad.abs().max() > 1e-6 for parameter in trained(layer))


@pytest.mark.parametrize('dtype', [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.newer_torch)])
@pytest.mark.parametrize('name', MIXERS)
def test_autocast_stays_near_float32_on_a_large_map(name, dtype):
    torch.manual_seed(0)
    layer = MIXERS[name][0]()
    x = torch.randn(1, 12, 80, 100)
    with torch.no_grad():
        exact = layer(x)
        with torch.autocast('cpu', dtype):
            output = layer(x)
    assert output.dtype == dtype
    # A handful of roundings in a row: units of 2**-8 and 2**-11.
    unit = {torch.bfloat16: 2**-8, torch.float16: 2**-11}[dtype]
    assert ((output - exact).norm() / exact.norm()).item() < 4 * unit


def test_inline_weights_of_a_token_sum_to_one():
    layer = seeded(lambda: InLineAttention(8, num_heads=2))
    q, k = torch.randn(2, 3, 2, 20, 4, dtype=torch.float64)
    ones = torch.ones_like(q)
    torch.testing.assert_close(layer.attend(q, k, ones), ones, rtol=1e-12, atol=1e-12)


def test_the_last_step_is_atconv():
    torch.manual_seed(0)
    reference_layer = ATConv(6, 5, context_pool='grid').double()
    torch.nn.init.normal_(reference_layer.difference_control)
    layer = ATConvStep(6, 'differential_modulation', kernel_size=5, context_pool='grid').double()
    layer.load_state_dict(reference_layer.state_dict())
    x = torch.randn(2, 6, 9, 7, dtype=torch.float64)
    assert torch.equal(layer(x), reference_layer(x))


def test_kernels_of_biases_are_mixtures_of_three_shapes_whatever_the_map():
    layer = seeded(lambda: ATConvKernels(12, 'biases'))
    first, second = (layer.generate_kernels(torch.randn(1, 12, 9, 7, dtype=torch.float64)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.linalg.matrix_rank(first.flatten(2)[0]) == 3
    assert not layer.kernel_proj.weight.requires_grad


def test_without_static_kernels_added_is_atconv():
    torch.manual_seed(0)
    plain, layer = ATConv(6, 5), ATConvKernels(6, kernel_size=5)
    with torch.no_grad():
        layer.static_kernel.zero_()
    layer.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(2, 6, 9, 7)
    assert torch.equal(layer(x), plain(x))


@pytest.mark.parametrize(
    ('step', 'missing'),
    [
        ('kernel_generator', {'proj', 'x_proj', 'difference_control'}),
        ('output_projection', {'x_proj', 'difference_control'}),
        ('value_projection', {'difference_control'}),
        ('softmax', {'difference_control'}),
        ('kernel_difference', {'difference_control'}),
        ('differential_modulation', set()),
    ],
)
def test_a_step_has_the_parameters_of_atconv_less_those_to_come(step, missing):
    expected = {name for name in ATConv(6).state_dict() if name.split('.')[0] not in missing}
    assert set(ATConvStep(6, step).state_dict()) == expected


def t2_total(count, whole, own):
    """AttNet-T2's total with another mixer, from ``whole`` with a known one that adds ``own(dim, side)`` a block."""
    stages = zip(T2['depths'], T2['dims'], T2['sides'])
    return whole + sum(
        depth * (count(stage, dim, side) - own(dim, side)) for stage, (depth, dim, side) in enumerate(stages)
    )


@pytest.mark.parametrize(
    ('build', 'parameters', 'gflops'),
    [
        (lambda stage, dim: Conv(dim), 40_038_228, 7.3467),
        (lambda stage, dim: DepthwiseConv(dim), 20_523_924, 3.9822),
        (lambda stage, dim: DepthwiseConv(dim, 5), 20_631_444, 4.0123),
        (lambda stage, dim: DepthwiseConv(dim, 7), 20_792_724, 4.0574),
        (lambda stage, dim: HydraAttention(dim), 29_183_508, 5.4681),
        (lambda stage, dim: InLineAttention(dim, (2, 4, 8, 16)[stage]), 31_632_468, 5.6338),
        (lambda stage, dim: RankAugAttention(dim, (2, 4, 9, 16)[stage]), 31_539_924, 6.0150),
        (lambda stage, dim: RankAugAttention(dim, (2, 2, 4, 8)[stage]), 31_539_924, 6.1114),
        # Counted in the order computed, pooling first: 0.3561 less than the paper's 4.36, 4.73, 5.11.
        (lambda stage, dim: ATConvStep(dim, 'kernel_generator'), 22_640_670, 4.3584 - 0.3561),
        (lambda stage, dim: ATConvStep(dim, 'output_projection'), 24_822_366, 4.7341 - 0.3561),
        (lambda stage, dim: ATConvStep(dim, 'value_projection'), 27_004_062, 5.1098 - 0.3561),
        (lambda stage, dim: ATConvStep(dim, 'softmax'), 27_004_062, 5.1098 - 0.3561),
        (lambda stage, dim: ATConvStep(dim, 'kernel_difference'), 27_004_062, 5.1098 - 0.3561),
        (lambda stage, dim: ATConvStep(dim, 'differential_modulation'), 27_010_782, 5.1098 - 0.3561),
    ],
)
def test_table_ix_counts_of_attnet_t2(build, parameters, gflops):
    def count_parameters(stage, dim, side):
        return sum(parameter.numel() for parameter in build(stage, dim).parameters())

    def count_flops(stage, dim, side):
        analyzer = FlopAnalyzer(build(stage, dim), torch.zeros(1, dim, side, side))
        return analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()

    def atconv_parameters(dim, side):
        return 3 * (dim * dim + dim) + 9 * 9 + 9 + dim

    # Known: the parameters with ATConv, and the operations, as fvcore counts them, with a 3x3 depthwise convolution.
    assert t2_total(count_parameters, 27_010_782, atconv_parameters) == parameters
    flops = t2_total(count_flops, 3.9822e9, lambda dim, side: 9 * dim * side * side)
    # Both totals are rounded to four decimals.
    assert flops / 1e9 == pytest.approx(gflops, abs=1.5e-4)


@pytest.mark.parametrize(
    ('build', 'message'),
    [
        (lambda: Conv(8, 4), 'kernel_size must be odd and positive, but is 4'),
        (lambda: DepthwiseConv(8, [3, 5]), r'odd and positive, but is \[3, 5\]'),
        (lambda: InLineAttention(10, 4), 'num_heads must divide the 10 channels of the token mixer, but is 4'),
        (lambda: RankAugAttention(10, 0), 'num_heads must divide the 10 channels of the token mixer, but is 0'),
        (
            lambda: ATConvStep(8, 'gate'),
            "no step 'gate'; choose from kernel_generator, output_projection, value_projection, softmax, "
            'kernel_difference, differential_modulation',
        ),
        (lambda: ATConvStep(8, context_pool='ring'), 'one of flat, grid'),
        (lambda: ProjectedDepthwiseConv(8, 2), 'kernel_size must be odd and positive, but is 2'),
        (lambda: ATConvKernels(8, 'free'), "one of biases, static_and_generated, but is 'free'"),
    ],
)
def test_wrong_options_are_named(build, message):
    with pytest.raises(UserError, match=message):
        build()
