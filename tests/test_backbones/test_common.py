"""What every backbone promises: options, shapes, freezing, gradients, errors."""

import pytest
import torch
from torch import nn

from mmatconv import ATConvPVT, ATConvSwin, AttNet
from mmatconv.layers import Block

SMALL = {
    'AttNet': lambda **options: AttNet(
        dict(depths=[1, 1, 2, 1], dims=[8, 12, 20, 24], drop_path_rate=0.0), init='live', **options
    ),
    'ATConvPVT': lambda **options: ATConvPVT(
        dict(depths=[1, 1, 2, 1], dims=[8, 12, 20, 24], mlp_ratios=2), init='live', **options
    ),
    'ATConvSwin': lambda **options: ATConvSwin(
        dict(depths=[1, 1, 2, 1], dims=[8, 12, 20, 24], mlp_ratios=2), init='live', **options
    ),
    'ATConvSwin-linear': lambda **options: ATConvSwin(
        dict(depths=[1, 1, 2, 1], dims=[8, 12, 20, 24], mlp_ratios=2), merging='linear', init='live', **options
    ),
}
PVT_PARAMETERS = {'tiny': 10_199_224, 'small': 18_318_280, 'medium': 31_886_080, 'large': 43_316_178}
SWIN_PARAMETERS = {
    ('tiny', 'conv'): 28_042_240,
    ('small', 'conv'): 47_567_416,
    ('base', 'conv'): 84_164_312,
    ('tiny', 'linear'): 26_109_568,
    ('small', 'linear'): 45_634_744,
    ('base', 'linear'): 80_727_256,
}


@pytest.fixture(params=SMALL)
def make(request):
    torch.manual_seed(0)
    return SMALL[request.param]


@pytest.mark.parametrize('arch', PVT_PARAMETERS)
def test_pvt_parameter_counts_with_the_1000_way_head(arch):
    with torch.device('meta'):
        model = ATConvPVT(arch, gap_before_final_norm=True)
        head = nn.Linear(512, 1000)
    assert sum(p.numel() for m in (model, head) for p in m.parameters()) == PVT_PARAMETERS[arch]


@pytest.mark.parametrize(('arch', 'merging'), SWIN_PARAMETERS)
def test_swin_parameter_counts_with_the_1000_way_head(arch, merging):
    with torch.device('meta'):
        model = ATConvSwin(arch, merging=merging, gap_before_final_norm=True)
        head = nn.Linear(model.dims[-1], 1000)
    assert sum(p.numel() for m in (model, head) for p in m.parameters()) == SWIN_PARAMETERS[arch, merging]


@pytest.mark.parametrize(('height', 'width'), [(32, 32), (33, 47), (64, 96), (50, 101)])
def test_shapes_of_any_input(make, height, width):
    outputs = make()(torch.randn(2, 3, height, width))
    for output, channels, stride in zip(outputs, (8, 12, 20, 24), (4, 8, 16, 32)):
        assert output.shape == (2, channels, (height + stride - 1) // stride, (width + stride - 1) // stride)
        assert torch.isfinite(output).all()


def test_out_indices_build_and_return_only_what_is_asked_for(make):
    x = torch.randn(1, 3, 64, 64)
    model = make(out_indices=(0, 2), out_norm=True)
    assert [output.shape[1] for output in model(x)] == [8, 20]
    assert len(model.stages) == 3 and sorted(model.out_norms) == ['0', '2']
    full = make()
    full.load_state_dict(model.state_dict(), strict=False)
    plain = make(out_indices=[2])
    plain.load_state_dict(full.state_dict(), strict=False)
    torch.testing.assert_close(plain.eval()(x)[0], full.eval()(x)[2])
    assert [output.shape[1] for output in make(out_indices=-1)(x)] == [24]


def test_out_norm_normalises_each_map(make):
    for output in make(out_norm=True)(torch.randn(1, 3, 64, 64)):
        torch.testing.assert_close(output.mean(1), torch.zeros_like(output[:, 0]), rtol=0, atol=1e-5)
        torch.testing.assert_close(output.var(1, unbiased=False), torch.ones_like(output[:, 0]), rtol=0, atol=1e-3)


def test_classification_form_is_one_vector_for_each_image(make):
    model = make(gap_before_final_norm=True)
    (output,) = model(torch.randn(3, 3, 64, 64))
    assert output.shape == (3, 24)
    assert 'norm.weight' in model.state_dict() and not model.out_norms


@pytest.mark.parametrize('options', [{}, dict(out_indices=(1,)), dict(out_norm=True), dict(with_cp=True)])
def test_every_parameter_gets_a_gradient(make, options):
    model = make(**options)
    sum(output.square().mean() for output in model(torch.randn(2, 3, 48, 64))).backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not without
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def test_every_parameter_gets_a_gradient_in_classification(make):
    model = make(gap_before_final_norm=True)
    model(torch.randn(2, 3, 48, 64))[0].square().sum().backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]


@pytest.mark.parametrize('init', ['released', 'live'])
@pytest.mark.parametrize('backbone', [ATConvPVT, ATConvSwin, AttNet])
def test_padding_of_a_batch_does_not_make_gradients_overflow(backbone, init):
    """With stem biases of 0, zeros stay zeros, and every LayerNorm there multiplies the gradient by 1 / sqrt(eps)."""
    torch.manual_seed(0)
    ratios = dict(exp_rates=2) if backbone is AttNet else dict(mlp_ratios=2)
    model = backbone(dict(depths=[2, 2, 2, 2], dims=[8, 12, 20, 24], drop_path_rate=0.0, **ratios), init=init).train()
    images = torch.randn(2, 3, 96, 96)
    images[0, :, 40:], images[0, :, :, 33:] = 0, 0
    sum(output.square().mean() for output in model(images)).backward()
    # About 5; 1e10 and more, or not finite, with biases of 0.
    assert max(float(parameter.grad.abs().max()) for parameter in model.parameters()) < 1e3


@pytest.mark.parametrize('frozen_stages', [-1, 0, 1, 2, 4])
def test_freezing_holds_from_the_start_and_in_training(make, frozen_stages):
    model = make(frozen_stages=frozen_stages)
    assert model.train() is model
    frozen = [f'downsample_layers.{i}.' for i in range(max(frozen_stages, 1 if frozen_stages == 0 else 0))]
    frozen += [f'stages.{i}.' for i in range(frozen_stages)]
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad != name.startswith(tuple(frozen or ['none'])), name
    for name, module in model.named_modules():
        if f'{name}.'.startswith(tuple(frozen or ['none'])):
            assert not module.training, name
    assert model.stages[-1].training == (frozen_stages < 4)
    outputs = model(torch.randn(2, 3, 48, 48))
    if frozen_stages < 4:
        sum(output.mean() for output in outputs).backward()
        assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]


def test_norm_eval_keeps_batch_statistics():
    model = SMALL['AttNet'](norm_eval=True).train()
    before = {name: value.clone() for name, value in model.named_buffers()}
    model(torch.randn(2, 3, 32, 32) + 5)
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    model = SMALL['AttNet']().train()
    model(torch.randn(2, 3, 32, 32) + 5)
    assert any(not torch.equal(value, before[name]) for name, value in model.named_buffers() if 'mean' in name)


def test_checkpointing_changes_memory_and_nothing_else(make):
    x = torch.randn(2, 3, 40, 48, dtype=torch.float64)
    plain, saving = make().double(), make(with_cp=True).double()
    saving.load_state_dict(plain.state_dict())
    for model in (plain, saving):
        sum(output.square().mean() for output in model(x)).backward()
    for (name, parameter), other in zip(plain.named_parameters(), saving.parameters()):
        torch.testing.assert_close(other.grad, parameter.grad, rtol=1e-12, atol=1e-14, msg=name)


def test_checkpointing_recomputes_every_block_that_trains(make):
    """Also the first one behind a frozen stem, whose input needs no gradient."""
    model = make(with_cp=True, frozen_stages=0)
    runs = []
    for name, block in model.named_modules():
        if isinstance(block, Block):
            block.register_forward_pre_hook(lambda *args, name=name: runs.append(name))
    sum(output.sum() for output in model(torch.randn(2, 3, 32, 32))).backward()
    assert sorted(runs) == sorted(2 * list(dict.fromkeys(runs))) and len(runs) == 2 * 5


@pytest.mark.parametrize('out_norm', [False, True])
def test_memory_format_of_the_input_comes_back_with_equal_values(make, out_norm):
    model = make(out_norm=out_norm).double().eval()
    x = torch.randn(2, 3, 50, 61, dtype=torch.float64)
    contiguous = model(x)
    channels_last = model.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    for a, b in zip(contiguous, channels_last):
        assert a.is_contiguous() and b.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_bfloat16_autocast_trains(make):
    model = make()
    with torch.autocast('cpu', torch.bfloat16):
        outputs = model(torch.randn(2, 3, 64, 64))
    sum(output.float().square().mean() for output in outputs).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@pytest.mark.parametrize(
    ('shape', 'named'),
    [((1, 3, 31, 64), '31 x 64'), ((1, 4, 64, 64), r'\(1, 4, 64, 64\)'), ((3, 64, 64), r'\(3, 64, 64\)')],
)
def test_wrong_images_are_named(make, shape, named):
    with pytest.raises(ValueError, match=named):
        make()(torch.zeros(shape))


def test_other_channels_by_option(make):
    assert len(make(in_channels=1).eval()(torch.zeros(1, 1, 32, 32))) == 4


@pytest.mark.parametrize(
    ('options', 'named'),
    [
        (dict(out_indices=(0, 4)), r'from 0 to 3, but are \(0, 4\)'),
        (dict(out_indices=()), r'but are \(\)'),
        (dict(frozen_stages=5), 'from -1 to 4, but is 5'),
        (dict(drop_path_rate=1.0), 'but is 1.0'),
        (dict(gap_before_final_norm=True, out_indices=(0,)), r'out_indices are \(0,\)'),
        (dict(context_pool='strip'), "'strip'"),
    ],
)
def test_wrong_options_are_named(make, options, named):
    with pytest.raises(ValueError, match=named):
        make(**options)


@pytest.mark.parametrize(
    ('backbone', 'arch', 'rate'),
    [(AttNet, 'T3', 0.4), (ATConvPVT, 'large', 0.3), (ATConvSwin, 'base', 0.5)],
)
def test_stochastic_depth_rises_to_the_rate_of_the_arch(backbone, arch, rate):
    with torch.device('meta'):
        model = backbone(arch)
    rates = [block.drop_path.rate for stage in model.stages for block in stage]
    assert rates[0] == 0 and rates == sorted(rates) and rates[-1] == pytest.approx(rate)
    with torch.device('meta'):
        assert backbone(arch, drop_path_rate=0).stages[-1][-1].drop_path.rate == 0


def test_layer_depths_rise_block_by_block(make):
    model = make(out_norm=True)
    depths = {name: model.get_layer_depth(f'backbone.{name}', prefix='backbone.') for name in model.state_dict()}
    assert {layers for _, layers in depths.values()} == {7}
    for start, layer in {
        'downsample_layers.0.': 0,
        'stages.0.0.': 1,
        'downsample_layers.1.': 2,
        'stages.1.0.': 2,
        'stages.2.0.': 3,
        'stages.2.1.': 4,
        'downsample_layers.3.': 5,
        'stages.3.0.': 5,
        'out_norms.': 6,
    }.items():
        found = {depth for name, (depth, _) in depths.items() if name.startswith(start)}
        assert found == {layer}, start
    assert model.get_layer_depth('head.fc.weight', prefix='backbone.') == (6, 7)
    assert model.get_layer_depth('stages.1.0.norm_1.weight') == (2, 7)
