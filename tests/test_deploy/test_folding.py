"""Folded models compute what the models did, and no longer hold what was folded."""

import pytest
import torch
from mmengine.config import Config
from torch import nn

from mmatconv import ATConv, ATConvPVT, ATConvSwin, AttNet, UserError
from mmatconv.analysis.build_model import build_model
from mmatconv.analysis.complexity.projection_first import projection_first
from mmatconv.backbones import TOKEN_MIXERS
from mmatconv.deploy.folded_atconv import FoldedATConv
from mmatconv.deploy.folding import FoldReport, fold
from mmatconv.layers import Block, ConvBN, ConvGLU, LayerNorm2d, LayerScale, RMSNorm2d
from mmatconv.layers.token_mixers.atconv_step import STEPS

TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5}
# Two blocks in two stages: every kind of layer, in front of and behind every other.
SMALL = dict(depths=(1, 2), dims=(8, 12), exp_rates=2)
SMALL_PVT = dict(depths=(1, 2), dims=(8, 12), mlp_ratios=2)
BACKBONES = {
    'attnet': (lambda **o: AttNet(SMALL, **o), FoldReport(3, 6, 6, 3, 3)),
    'attnet-k7-grid': (
        lambda **o: AttNet(dict(SMALL, kernel_sizes=(7, 5)), context_pool='grid', out_norm=True, **o),
        FoldReport(3, 6, 6, 3, 3),
    ),
    'attnet-plain': (
        lambda **o: AttNet(dict(SMALL, layer_scale=False, glu_norm=False), **o),
        FoldReport(3, 6, 0, 0, 3),
    ),
    'attnet-classifier': (lambda **o: AttNet(SMALL, gap_before_final_norm=True, **o), FoldReport(3, 6, 6, 3, 3)),
    'pvt': (lambda **o: ATConvPVT(SMALL_PVT, **o), FoldReport(0, 6, 0, 0, 3)),
    'pvt-classifier': (lambda **o: ATConvPVT(SMALL_PVT, gap_before_final_norm=True, **o), FoldReport(0, 6, 0, 0, 3)),
    'swin': (lambda **o: ATConvSwin(SMALL_PVT, **o), FoldReport(1, 6, 0, 0, 3)),
    'swin-linear': (lambda **o: ATConvSwin(SMALL_PVT, merging='linear', **o), FoldReport(0, 7, 0, 0, 3)),
}


def randomise(model):
    """Every parameter and statistic far from the value at which a forgotten fold would not show."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if not tensor.is_floating_point() or 'data_preprocessor' in name:
            continue
        noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        if name.endswith('running_var'):
            noise = noise.abs() + 0.5
        elif tensor.dim() > 1:
            noise *= tensor[0].numel() ** -0.5
        tensor.data.copy_(noise)
    return model.eval()


def relative_error(actual, expected):
    assert actual.shape == expected.shape
    return ((actual - expected).abs().max() / expected.abs().max()).item()


def count(model, *kinds):
    return sum(isinstance(module, kinds) for module in model.modules())


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('dtype', TOLERANCES)
@pytest.mark.parametrize('name', BACKBONES)
def test_backbones(name, dtype, memory_format):
    make, report = BACKBONES[name]
    model = randomise(make()).to(dtype)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    x = torch.randn(2, 3, 50, 77, dtype=dtype).contiguous(memory_format=memory_format)
    folded = fold(model)
    with torch.no_grad():
        expected, actual = model(x), folded(x)
    for a, e in zip(actual, expected, strict=True):
        assert relative_error(a, e) < TOLERANCES[dtype]
    assert folded.fold_report == report
    after = model.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[key], before[key]) for key in before)


def test_what_was_folded_is_gone():
    model = randomise(AttNet(SMALL))
    x = torch.randn(1, 3, 64, 64)
    expected = model(x)
    assert fold(model, inplace=True) is model
    for a, e in zip(model(x), expected):
        assert relative_error(a, e) < 1e-5
    assert count(model, nn.BatchNorm2d, LayerScale, ConvBN) == 0
    assert all(m.weight is None for m in model.modules() if isinstance(m, LayerNorm2d | RMSNorm2d))
    assert not [key for key in model.state_dict() if 'gamma' in key or 'difference_control' in key or 'norm' in key]
    assert count(model, FoldedATConv) == 3
    assert not any(module.training for module in model.modules())
    # The generator of 3x3 kernels: 9 positions and their mean.
    assert model.stages[0][0].token_mixer.kernel_gen.weight.shape == (10, 9)
    assert 'no gain' in repr(model)


def test_gradients_of_the_input_are_the_same():
    model = randomise(AttNet(SMALL)).double()
    folded = fold(model)
    x = torch.randn(1, 3, 48, 64, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(model(x)[-1].square().sum(), x)
    (actual,) = torch.autograd.grad(folded(x)[-1].square().sum(), x)
    assert relative_error(actual, expected) < 1e-12


# Channel counts that all heads and windows divide.
MIXERS = {
    'ATConv': (dict(), FoldReport(3, 6, 6, 3, 3)),
    'ATConvKernels': (dict(), FoldReport(3, 3, 3, 3, 0, kept=6)),
    'Conv': (dict(), FoldReport(3, 3, 6, 3, 0, kept=3)),
    'DepthwiseConv': (dict(kernel_size=5), FoldReport(3, 3, 6, 3, 0, kept=3)),
    'HydraAttention': (dict(), FoldReport(3, 6, 6, 3, 0)),
    'InLineAttention': (dict(num_heads=2), FoldReport(3, 3, 6, 3, 0, kept=3)),
    'ProjectedDepthwiseConv': (dict(), FoldReport(3, 3, 3, 3, 0, kept=6)),
    'RankAugAttention': (dict(num_heads=2), FoldReport(3, 6, 6, 3, 0)),
    'SpatialReductionAttention': (dict(num_heads=2, sr_ratio=2), FoldReport(3, 3, 3, 3, 0, kept=6)),
    'WindowAttention': (dict(num_heads=2, window_size=4), FoldReport(3, 3, 3, 3, 0, kept=6)),
    'ACmixReduction': (dict(), FoldReport(3, 3, 3, 3, 0, kept=6)),
    'ACmixSliding': (dict(), FoldReport(3, 3, 3, 3, 0, kept=6)),
    'ACmixWindow': (dict(num_heads=2), FoldReport(3, 3, 3, 3, 0, kept=6)),
    'CrossShapedAttention': (dict(num_heads=2), FoldReport(3, 3, 3, 3, 0, kept=6)),
    'GridAttention': (dict(num_heads=2), FoldReport(3, 3, 3, 3, 0, kept=6)),
    'LKCA': (dict(num_heads=2), FoldReport(3, 3, 3, 3, 0, kept=6)),
    'PoolingAttention': (dict(num_heads=2), FoldReport(3, 3, 3, 3, 0, kept=6)),
}
STEP_REPORTS = {
    'kernel_generator': FoldReport(3, 3, 3, 3, 0, kept=6),
    'output_projection': FoldReport(3, 3, 6, 3, 0, kept=3),
    'value_projection': FoldReport(3, 6, 6, 3, 0),
    'softmax': FoldReport(3, 6, 6, 3, 0),
    'kernel_difference': FoldReport(3, 6, 6, 3, 0),
    'differential_modulation': FoldReport(3, 6, 6, 3, 3),
}
CASES = [(kind, *case) for kind, case in MIXERS.items()]
CASES += [('ATConvStep', dict(step=step), STEP_REPORTS[step]) for step in STEPS]


def test_every_token_mixer_is_tested():
    assert {kind for kind, _, _ in CASES} == set(TOKEN_MIXERS.module_dict)


@pytest.mark.parametrize(('kind', 'options', 'report'), CASES)
def test_token_mixers(kind, options, report):
    """Only what is exact is folded; a depthwise convolution reads the map itself, so its LayerNorm stays."""
    model = randomise(AttNet(SMALL, token_mixer=dict(type=kind, **options))).double()
    x = torch.randn(1, 3, 40, 64, dtype=torch.float64)
    folded = fold(model)
    with torch.no_grad():
        for actual, expected in zip(folded(x), model(x), strict=True):
            assert relative_error(actual, expected) < 1e-12
    assert folded.fold_report == report


class LouderATConv(ATConv):
    def modulate(self, kernels):
        return 2 * super().modulate(kernels)


def test_a_mixer_of_ones_own_is_left_alone():
    model = randomise(AttNet(SMALL, token_mixer=dict(type=LouderATConv))).double()
    x = torch.randn(1, 3, 40, 64, dtype=torch.float64)
    folded = fold(model)
    assert relative_error(folded(x)[-1], model(x)[-1]) < 1e-12
    assert folded.fold_report == FoldReport(3, 3, 3, 3, 0, kept=6)
    assert folded.fold_report.summary().endswith('; kept 6 LayerNorm and LayerScale beside other layers')


@pytest.mark.parametrize('bias', [True, False])
def test_layers_without_biases(bias):
    block = randomise(Block(8, ATConv(8, bias=bias), ConvGLU(8, 16), layer_scale=True)).double()
    x = torch.randn(2, 8, 9, 11, dtype=torch.float64)
    folded = fold(block)
    assert relative_error(folded(x), block(x)) < 1e-12
    # The shift of the LayerNorm needs a bias to go to, the others do not.
    assert folded.token_mixer.x_proj.bias is not None
    assert (folded.token_mixer.proj.bias is None) != bias


def test_a_layer_by_itself():
    layer, downsample = randomise(ATConv(6, 5)).double(), randomise(ConvBN(6, 4)).double()
    x = torch.randn(2, 6, 9, 11, dtype=torch.float64)
    folded = fold(layer)
    assert type(folded) is FoldedATConv
    assert relative_error(folded(x), layer(x)) < 1e-12
    with projection_first(folded):
        assert relative_error(folded(x), layer(x)) < 1e-12
    assert type(fold(downsample)) is nn.Conv2d
    assert relative_error(fold(downsample)(x), downsample(x)) < 1e-12


def test_half_precision_weights():
    model = randomise(AttNet(SMALL)).bfloat16()
    folded = fold(model)
    assert {p.dtype for p in folded.parameters()} == {torch.bfloat16}
    x = torch.randn(1, 3, 64, 64)
    exact = model.float()(x)[-1]
    assert relative_error(folded.float()(x)[-1], exact) < 0.05


def test_autocast():
    model = randomise(AttNet(SMALL))
    folded = fold(model)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        exact = model(x)[-1]
        with torch.autocast('cpu', torch.bfloat16):
            output, expected = folded(x)[-1], model(x)[-1]
    # The residual stream is in float32 with a LayerScale, and stays it without.
    assert output.dtype == expected.dtype == torch.float32
    assert relative_error(output, exact) < 2 * relative_error(expected, exact) + 0.01


def test_states_of_folded_models_fit_each_other():
    first, second = fold(randomise(AttNet(SMALL))), fold(AttNet(SMALL).eval())
    second.load_state_dict(first.state_dict())
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(first(x)[-1], second(x)[-1])


def test_folding_draws_no_random_numbers():
    model = randomise(AttNet(SMALL))
    torch.manual_seed(0)
    fold(model)
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(1), drawn)


def test_frozen_weights_stay_frozen():
    model = fold(randomise(AttNet(SMALL, frozen_stages=1)))
    assert not any(p.requires_grad for p in model.stages[0].parameters())
    assert all(p.requires_grad for p in model.stages[1].parameters())


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: AttNet(SMALL), r'^AttNet is in training mode, where BatchNorm cannot be folded; call its eval\(\) '),
        (lambda: AttNet(SMALL, frozen_stages=2), '^AttNet is in training mode'),
        (
            lambda: nn.Sequential(fold(AttNet(SMALL).eval())).eval(),
            '^Sequential is folded already; fold a model once.$',
        ),
        (lambda: nn.Conv2d(3, 3, 1).eval(), '^Conv2d has nothing to fold: it holds no BatchNorm, block or ATConv of '),
        (lambda: fold(nn.Sequential(ATConv(4)).eval())[0], '^FoldedATConv has nothing to fold'),
    ],
)
def test_refusals(make, message):
    with pytest.raises(UserError, match=message):
        fold(make())


@pytest.mark.parametrize('dtype', TOLERANCES)
@pytest.mark.parametrize('config', ['det', 'seg', 'cls'])
def test_inside_detectors_segmentors_and_classifiers(config, dtype):
    config = Config.fromfile(f'tests/test_tools/configs/{config}.py')
    model = randomise(build_model(config, 'cpu')).to(dtype)
    folded = fold(model)
    assert folded.fold_report == FoldReport(5, 8, 8, 4, 4)
    x = torch.randn(1, 3, 64, 96, dtype=dtype)
    with torch.no_grad():
        if config.default_scope == 'mmdet':
            expected, actual = (
                (*m.backbone(x), *m.extract_feat(x), *m.rpn_head(m.extract_feat(x))[0]) for m in (model, folded)
            )
        else:
            expected, actual = (m(x, mode='tensor') for m in (model, folded))
    for a, e in zip(actual, expected, strict=True):
        assert relative_error(a, e) < TOLERANCES[dtype]
    # Norms of the outputs, and of the layers around the backbone, stay.
    assert count(folded, LayerNorm2d) == count(model, LayerNorm2d)
    assert count(folded, nn.BatchNorm2d) == count(model, nn.BatchNorm2d) - 5
    if model.backbone.out_norms:
        assert torch.equal(folded.backbone.out_norms['0'].weight, model.backbone.out_norms['0'].weight)
