"""Counts of the models against their definition, of operators against arithmetic, and the order of the paper."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import mmatconv
from mmatconv import ATConv, dynamic_depthwise_conv2d
from mmatconv.analysis.complexity.counter import RULES, count, counting_device, dynamic_convolution_flops
from mmatconv.analysis.complexity.projection_first import projection_first
from mmatconv.layers.token_mixers.atconv_step import ATConvStep

IMAGE = (1, 3, 224, 224)


class Classifier(nn.Module):
    """A backbone in its classification form and 1000 classes."""

    def __init__(self, name, channels, **options):
        super().__init__()
        self.backbone = getattr(mmatconv, name)(gap_before_final_norm=True, **options)
        self.head = nn.Linear(channels, 1000)

    def forward(self, x):
        return self.head(self.backbone(x)[0])


class Function(nn.Module):
    """Calls a function with the input and a parameter."""

    def __init__(self, function, *shape):
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.randn(shape))

    def forward(self, x):
        return self.function(x, self.weight)


def billions(value, digits=4):
    return round(value / 1e9, digits)


# Parameters; fvcore's total in the paper's order; multiply-adds in the paper's order and with the pooling first.
@pytest.mark.parametrize(
    ('name', 'arch', 'channels', 'params', 'flops', 'macs', 'first'),
    [
        ('AttNet', 'XXS', 240, 2853556, 0.5357, 0.5307, 0.5011),
        ('AttNet', 'XS', 320, 5554902, 1.0116, 1.0044, 0.9427),
        ('AttNet', 'S', 320, 7681316, 1.3364, 1.3274, 1.2424),
        ('AttNet', 'T1', 384, 13714900, 2.4338, 2.4215, 2.2554),
        ('AttNet', 'T2', 512, 27010782, 5.1098, 5.0895, 4.7333),
        ('ATConvPVT', 'tiny', 512, 10199224, 1.8174, 1.8076, 1.6973),
        ('ATConvPVT', 'small', 512, 18318280, 3.5870, 3.5704, 3.3349),
        ('ATConvSwin', 'tiny', 768, 28042240, 4.2501, 4.2336, 3.9062),
        ('ATConvSwin', 'base', 1024, 84164312, 14.3413, 14.3073, 13.1370),
    ],
)
def test_models_have_the_counts_of_their_definition(name, arch, channels, params, flops, macs, first):
    with torch.device(counting_device()):
        model = Classifier(name, channels, arch=arch)
    ours = count(model, IMAGE)
    with projection_first(model):
        paper = count(model, IMAGE)
    assert ours.params == paper.params == params
    assert (billions(paper.flops), billions(paper.macs), billions(ours.macs)) == (flops, macs, first)
    assert ours.uncounted == {}
    assert ours.modules['head'] == (1000 * channels + 1000, 1000 * channels, 1000 * channels)
    assert ours.modules['backbone'][1] + ours.modules['head'][1] == ours.flops == sum(ours.operators.values())


def test_shapes_alone_count_as_numbers_do():
    arch = dict(depths=[1, 1, 1, 1], dims=[8, 16, 24, 32], exp_rates=2)
    real = Classifier('AttNet', 32, arch=arch)
    with torch.device('meta'):
        shapes = Classifier('AttNet', 32, arch=arch)
    for shape in [(1, 3, 64, 64), (3, 3, 64, 96)]:
        assert count(real, shape) == count(shapes, shape)
    # Three images cost three times as much.
    assert count(real, (3, 3, 64, 64)).flops == 3 * count(real, (1, 3, 64, 64)).flops


@pytest.mark.parametrize('device', ['cpu', 'meta'])
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(('batch', 'size'), [(1, 3), (3, 3), (2, 5)])
def test_dynamic_convolution_costs_a_kernel_for_every_element(batch, size, memory_format, device):
    def convolve(x, kernel):
        return dynamic_depthwise_conv2d(x.contiguous(memory_format=memory_format), kernel)

    model = Function(convolve, batch, 6, size, size).to(device)
    complexity = count(model, (batch, 6, 10, 14))
    assert complexity.macs == complexity.flops == batch * 6 * size * size * 10 * 14
    assert complexity.uncounted == {}


def test_dynamic_convolution_as_an_operator_of_its_own(monkeypatch):
    library = torch.library.Library('mmatconv_test', 'DEF')
    library.define('dynamic_depthwise_conv2d(Tensor input, Tensor kernel) -> Tensor')
    library.impl('dynamic_depthwise_conv2d', lambda x, kernel: x.clone(), 'CompositeExplicitAutograd')
    monkeypatch.setitem(RULES, 'mmatconv_test::dynamic_depthwise_conv2d', dynamic_convolution_flops)
    model = Function(torch.ops.mmatconv_test.dynamic_depthwise_conv2d, 2, 6, 5, 5)
    complexity = count(model, (2, 6, 10, 14))
    assert complexity.macs == complexity.flops == 2 * 6 * 5 * 5 * 10 * 14
    assert RULES['mmatconv::dynamic_depthwise_conv2d'] is dynamic_convolution_flops


@pytest.mark.parametrize('device', ['cpu', 'meta'])
@pytest.mark.parametrize(
    ('module', 'shape', 'macs'),
    [
        (nn.Conv2d(4, 6, 3, stride=2, padding=1), (2, 4, 9, 11), 2 * 6 * 4 * 9 * 5 * 6),
        (nn.Conv2d(4, 6, (1, 3), dilation=(1, 2), groups=2), (1, 4, 8, 8), 6 * 2 * 3 * 8 * 4),
        (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1), (1, 4, 5, 5), 4 * 6 * 9 * 25),
        (nn.Conv1d(4, 6, 3), (1, 4, 8), 6 * 4 * 3 * 6),
        (nn.Linear(4, 6), (2, 5, 4), 10 * 24),
        (Function(lambda x, w: torch.baddbmm(x[:, :, :1], x, w), 2, 5, 6), (2, 4, 5), 2 * 4 * 5 * 6),
        (Function(lambda x, w: F.scaled_dot_product_attention(x, w, w), 2, 3, 7, 8), (2, 3, 4, 8), 2 * 6 * 4 * 7 * 8),
    ],
)
def test_multiply_adds_of_operators(module, shape, macs, device):
    complexity = count(module.to_empty(device=device), shape)
    assert complexity.macs == complexity.flops == macs


def test_norms_count_as_fvcore_has_them_and_not_as_multiply_adds():
    assert count(nn.LayerNorm(8), (2, 5, 8)).flops == 5 * 80
    norm = nn.BatchNorm2d(8)
    assert count(norm, (1, 8, 4, 4)).flops == 2 * 128
    assert count(norm, (1, 8, 4, 4)).macs == 0
    assert norm.training and norm.num_batches_tracked == 0


def test_an_operator_without_a_rule_is_named():
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            return grad * 2

    model = Function(lambda x, w: Double.apply(Double.apply(x)) @ w, 4, 4)
    complexity = count(model, (2, 4))
    assert complexity.uncounted == {'prim::PythonOp.Double': 2}
    assert complexity.macs == 2 * 4 * 4


@pytest.mark.parametrize('context_pool', ['flat', 'grid'])
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_order_of_the_paper_gives_the_same_results(context_pool, memory_format):
    torch.manual_seed(0)
    arch = dict(depths=[1, 1, 1, 1], dims=[8, 16, 24, 32], exp_rates=2, kernel_sizes=[7, 5, 3, 3])
    model = mmatconv.AttNet(arch, init='live', context_pool=context_pool).double().eval()
    x = torch.randn(2, 3, 96, 64, dtype=torch.float64).contiguous(memory_format=memory_format)
    ours = model(x)
    with projection_first(model) as same:
        assert same is model
        paper = model(x)
    for a, b in zip(ours, paper):
        assert a.std() > 0.1
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    assert not any('forward' in vars(module) for module in model.modules())


def test_order_of_the_paper_projects_the_whole_map():
    layer = ATConv(8)
    projected = []
    layer.kernel_proj.register_forward_hook(lambda module, args, output: projected.append(args[0].shape))
    x = torch.randn(2, 8, 12, 10).contiguous(memory_format=torch.channels_last)
    layer(x)
    with projection_first(layer):
        layer(x)
    assert projected == [(2, 8, 9, 1), (2, 8, 12, 10)]


@pytest.mark.parametrize('step', ['kernel_generator', 'output_projection', 'softmax', 'kernel_difference'])
def test_order_of_the_paper_for_the_steps_of_the_road_map(step):
    torch.manual_seed(0)
    layer = ATConvStep(8, step).double()
    x = torch.randn(2, 8, 12, 10, dtype=torch.float64)
    ours = layer(x)
    with projection_first(layer):
        torch.testing.assert_close(layer(x), ours, rtol=0, atol=1e-12)
