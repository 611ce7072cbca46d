"""The benchmark: what it compares is equal, what it computes from readings is right; no test depends on a clock."""

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from mmatconv import ATConvPVT, ATConvSwin, AttNet, UserError, dynamic_depthwise_conv2d
from mmatconv.analysis.benchmark import agreement, backbones, blocks, cases, detectors, linear_cost, measure, operators
from mmatconv.analysis.benchmark.competitors import Case, Competitor, Setting
from mmatconv.analysis.benchmark.memory import held_bytes, peak_growth
from mmatconv.analysis.benchmark.modes import Run, deterministic, leaves
from mmatconv.analysis.benchmark.plot import plot
from mmatconv.analysis.benchmark.randomize import randomize
from mmatconv.analysis.benchmark.released_expression import ReleasedBackbone
from mmatconv.analysis.benchmark.render import as_dict
from mmatconv.analysis.benchmark.timing import SHORTEST_READING, Times, interleave

DATA = Path(__file__).parents[1] / 'data'
SMALL = Setting(size=(9, 7), batch=2, channels=32)
TINY = dict(depths=(1, 1, 2, 1), dims=(8, 16, 24, 32))


def relative_error(actual, expected):
    return ((actual - expected).abs().max() / expected.abs().max()).item()


def tiny_backbones():
    return [
        AttNet(dict(**TINY, kernel_sizes=(7, 5, 3, 3))),
        AttNet(dict(**TINY, layer_scale=False, glu_norm=False), out_norm=True, out_indices=(1, 3)),
        ATConvPVT(TINY),
        ATConvSwin(TINY, out_norm=True),
    ]


class Clock:
    """Readings that are known: so many seconds for one call of each."""

    def __init__(self, seconds):
        self.seconds, self.read = seconds, []

    def __call__(self, call, times):
        call()
        self.read.append((call.name, times))
        return self.seconds[call.name] * times


def named(name, made):
    def call():
        made.append(name)

    call.name = name
    return call


class TestReleasedExpression:
    @pytest.mark.parametrize('index', range(4))
    @pytest.mark.parametrize('size', [(64, 64), (50, 77)])
    def test_equals_our_backbones(self, index, size):
        ours = randomize(tiny_backbones()[index]).eval()
        released = ReleasedBackbone(ours)
        x = torch.randn(2, 3, *size)
        found, expected = released(x), ours(x)
        assert len(found) == len(expected) == len(ours.out_indices)
        for a, b in zip(found, expected):
            assert a.shape == b.shape
            assert relative_error(a, b) < 1e-5

    @pytest.mark.parametrize('name', ['attnet_tiny', 'attnet_tiny_k7533_nonorm'])
    def test_equals_the_released_code(self, name):
        with safe_open(DATA / f'{name}.safetensors', 'pt') as file:
            config = json.loads(file.metadata()['config'])
            tensors = {key: file.get_tensor(key) for key in file.keys()}
        arch = {key: config[key] for key in ('depths', 'dims', 'exp_rates', 'kernel_sizes')}
        arch.update(layer_scale=config['use_layer_scale'], glu_norm=config['glu_norm'][0])
        weights = {key.removeprefix('weights/'): value for key, value in tensors.items() if key.startswith('weights/')}
        released = ReleasedBackbone(AttNet(arch)).double().eval()
        released.load_state_dict({k: v for k, v in weights.items() if not k.startswith(('head.', 'norm.'))})
        case = next(key.partition('/')[0] for key in tensors if key.endswith('/input'))
        for i, stage in enumerate(released(tensors[f'{case}/input'])):
            assert relative_error(stage, tensors[f'{case}/stage{i}']) < 1e-12

    @pytest.mark.parametrize('index', range(4))
    def test_shares_weights_but_no_code(self, index):
        ours = tiny_backbones()[index]
        released = ReleasedBackbone(ours)
        found, expected = released.state_dict(), ours.state_dict()
        assert list(found) == list(expected)
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        modules = {type(module).__module__ for module in released.modules()}
        assert not any(name.startswith(('mmatconv.layers', 'mmatconv.ops', 'mmatconv.backbones')) for name in modules)

    def test_stochastic_depth_and_norm_eval_are_kept(self):
        released = ReleasedBackbone(AttNet(TINY, drop_path_rate=0.4, norm_eval=True)).train()
        rates = [block.drop_path.rate for stage in released.stages for block in stage]
        assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
        norms = [module for module in released.modules() if isinstance(module, nn.BatchNorm2d)]
        assert len(norms) == 5 and not any(norm.training for norm in norms) and released.training
        dropped = released.stages[3][0].drop_path(torch.ones(64, 1, 2, 2))
        assert sorted(dropped.unique().tolist()) == pytest.approx([0, 1 / 0.6])

    @pytest.mark.parametrize(
        ('backbone', 'word'),
        [
            (lambda: AttNet(TINY, token_mixer=dict(type='DepthwiseConv')), 'token_mixer'),
            (lambda: AttNet(TINY, context_pool='grid'), 'context_pool'),
            (lambda: AttNet(TINY, gap_before_final_norm=True), 'gap_before_final_norm'),
            (lambda: ATConvSwin(TINY, merging='linear'), 'merging conv'),
        ],
    )
    def test_other_forms_are_refused(self, backbone, word):
        with pytest.raises(UserError, match=word):
            ReleasedBackbone(backbone())


class TestTiming:
    def test_turns_begin_with_another_competitor_each_round(self):
        made = []
        calls = {name: named(name, made) for name in 'abc'}
        ticks = []
        clock = Clock(dict(a=1.0, b=2.0, c=3.0))
        times = interleave(calls, 3, 1, clock, lambda: ticks.append(1))
        assert ''.join(made) == 'aabbcc' + 'abc' + 'bca' + 'cab'
        assert len(ticks) == 9
        assert {name: entry.median for name, entry in times.items()} == dict(a=1.0, b=2.0, c=3.0)

    def test_short_calls_are_repeated_within_a_reading(self):
        clock = Clock(dict(a=SHORTEST_READING / 40, b=1.0, c=1e-12))
        times = interleave({name: named(name, []) for name in 'abc'}, 2, 0, clock)
        assert [reading for reading in clock.read if reading[0] == 'a'] == [('a', 1), ('a', 40), ('a', 40)]
        assert clock.read[-1] == ('a', 40) and ('c', 1000) in clock.read and ('b', 1) in clock.read
        assert times['a'].median == pytest.approx(SHORTEST_READING / 40)

    def test_spread(self):
        times = Times([float(value) for value in range(11)])
        assert (times.p10, times.median, times.p90) == (1, 5, 9)


class TestMemory:
    def test_peak_is_the_most_at_one_moment(self):
        x = torch.zeros(1 << 16)
        size = x.nbytes

        def call():
            a = x.clone()
            b = x.clone()
            del a
            c = x.clone()
            del b, c
            return x.clone()

        assert peak_growth(call, 'cpu') == 2 * size
        assert peak_growth(lambda: None, 'cpu') == 0

    def test_shared_memory_is_held_once(self):
        x = torch.zeros(100)
        assert held_bytes([x, x[10:], None, torch.zeros(3, dtype=torch.float16)]) == 406


def outcome(seconds, peaks, reference='b', floors=(None,) * 9, size=(8, 8)):
    names = list(seconds)
    case = Case('operator', 'm', replace(SMALL, size=size), reference, [])
    entries = [
        measure.Measured(name, Times([seconds[name]]), 0, peaks[name], None, floor)
        for name, floor in zip(names, floors)
    ]
    return measure.Outcome(case, entries)


class TestRatios:
    def test_speed_and_memory_are_to_the_reference(self):
        found = outcome(dict(a=2.0, b=3.0), dict(a=60, b=80))
        assert [found.speed(entry) for entry in found.measured] == [1.5, 1]
        assert [found.memory(entry) for entry in found.measured] == [0.75, 1]

    def test_bandwidth_is_the_floor_over_the_median(self):
        found = outcome({'a': 2.0, 'b': 4.0, 'copy': 1.0}, {'a': 1, 'b': 1, 'copy': 1}, 'b', (500, 500, 200))
        assert [entry.bandwidth for entry in found.measured] == [250, 125, 200]
        assert [found.share(entry) for entry in found.measured] == [1.25, 0.625, 1]

    def test_without_a_reference_there_is_no_ratio(self):
        found = outcome(dict(a=2.0), dict(a=1), 'b')
        assert found.speed(found.measured[0]) is None
        assert as_dict(found)['results'][0]['speed'] is None

    def test_cost_per_pixel(self):
        small = outcome(dict(a=64e-6, b=64e-6), dict(a=1, b=1), size=(8, 8))
        large = outcome(dict(a=256e-6 * 1.09, b=256e-6 * 1.2), dict(a=1, b=1), size=(16, 16))
        other = outcome(dict(a=1, b=1), dict(a=1, b=1), size=(16, 8))
        found = list(linear_cost.growths([small, large, other]))
        assert [(growth.name, growth.linear) for growth in found] == [('a', True), ('b', False)]
        assert found[0].small == pytest.approx(1e-6) and found[0].ratio == pytest.approx(1.09)
        assert linear_cost.quadrupled([(8, 6), (16, 12)]) == [(8, 6), (16, 12), (32, 24)]


class WrongGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, kernel):
        ctx.shapes = x.shape, kernel.shape
        return operators.grouped(x, kernel)

    @staticmethod
    def backward(ctx, grad):
        return tuple(torch.ones(shape) for shape in ctx.shapes)


def never(call, times):
    raise AssertionError('the stopwatch was started')


class TestGate:
    @pytest.mark.parametrize(
        ('wrong', 'mode', 'kind'),
        [
            (lambda x, kernel: operators.grouped(x, kernel) * 1.001, 'forward', 'outputs'),
            (lambda x, kernel: operators.grouped(x, kernel) * float('nan'), 'forward', 'outputs'),
            (lambda x, kernel: operators.grouped(x, kernel)[:, :-1], 'forward', 'outputs'),
            (WrongGradient.apply, 'backward', 'gradients'),
            (lambda x, kernel: operators.grouped(x, kernel.detach()), 'backward', 'gradients'),
        ],
    )
    @pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
    def test_wrong_results_are_never_timed(self, monkeypatch, wrong, mode, kind, dtype):
        if dtype == 'bfloat16' and kind == 'outputs':
            good = wrong
            # Below the rounding of bfloat16 an error of 0.001 is none.
            wrong = lambda x, kernel: good(x, kernel) * 1.1  # noqa: E731
        monkeypatch.setattr(operators, 'dynamic_depthwise_conv2d', wrong)
        case = operators.operator_case(replace(SMALL, mode=mode, dtype=dtype))
        with pytest.raises(UserError, match=f"'ours' and 'grouped' .* in {kind} .* no speed is reported"):
            measure.measure(case, 1, 0, never)

    @pytest.mark.parametrize('mode', ['forward', 'backward'])
    @pytest.mark.parametrize('memory_format', ['contiguous', 'channels_last'])
    @pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16'])
    def test_operators_agree(self, mode, memory_format, dtype):
        setting = replace(SMALL, mode=mode, memory_format=memory_format, dtype=dtype, kernel_size=5)
        case = operators.operator_case(setting)
        errors = agreement.check_agreement(case, {c.name: Run(c, case) for c in case.competitors})
        assert set(errors) == {'ours', 'unfold'}
        assert max(errors.values()) < dict(float32=1e-5, bfloat16=2e-2, float16=2e-3)[dtype]

    def test_static_equals_dynamic_with_equal_kernels(self):
        x, weight = torch.randn(2, 4, 6, 5), torch.randn(4, 1, 3, 3)
        kernel = weight.transpose(0, 1).expand(2, -1, -1, -1)
        assert torch.allclose(operators.static(x, weight), dynamic_depthwise_conv2d(x, kernel), atol=1e-5)

    @pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
    def test_token_mixers_agree(self, dtype):
        case = blocks.block_case(replace(SMALL, mode='backward', dtype=dtype))
        runs = {c.name: Run(c, case) for c in case.competitors if c.name in ('ours', 'released')}
        errors = agreement.check_agreement(case, runs)
        assert list(errors) == ['ours'] and errors['ours'] < (1e-4 if dtype == 'float32' else 5e-2)

    @pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
    def test_backbones_agree_in_training(self, monkeypatch, dtype):
        monkeypatch.setattr(AttNet, 'arch_settings', dict(XXS=dict(**TINY, drop_path_rate=0.3)))
        case = backbones.backbone_case('attnet-xxs', replace(SMALL, mode='step', size=(64, 64), dtype=dtype))
        runs = {c.name: Run(c, case) for c in case.competitors}
        assert list(runs) == ['ours', 'released', 'static']
        assert list(agreement.check_agreement(case, runs)) == ['ours']
        assert [layer.rate for layer in runs['ours'].module.modules() if hasattr(layer, 'rate')][-1] == 0.3

    def test_a_broken_backbone_is_found(self, monkeypatch):
        monkeypatch.setattr(AttNet, 'arch_settings', dict(XXS=TINY))
        case = backbones.backbone_case('attnet-xxs', replace(SMALL, size=(64, 64), fold=True))
        with torch.no_grad():
            case.competitors[1].function.stages[2][0].token_mixer.x_proj.weight[0, 0] += 1
        with pytest.raises(UserError, match="'folded' and 'released'"):
            measure.measure(case, 1, 0, never)


class TestModes:
    def test_training_step_costs_a_step_and_changes_nothing(self):
        layer = nn.Linear(3, 2)
        before = layer.weight.detach().clone()
        competitor = Competitor('a', layer, (torch.randn(4, 3),), differentiable=1)
        run = Run(competitor, Case('block', 'm', replace(SMALL, mode='step'), 'a', [competitor]))
        run()
        assert torch.equal(layer.weight, before)
        assert layer.weight.grad is None and competitor.inputs[0].grad is None
        assert run.optimizer.state[layer.weight]['exp_avg'].abs().sum() > 0
        # Weights and biases with two moments and a counter each, the input, the gradient of the output.
        assert held_bytes(run.held()) == 4 * (3 * (6 + 2) + 2 + 12 + 8)

    def test_forward_is_inference(self):
        seen = []
        layer = nn.Dropout(0.5)
        layer.register_forward_hook(lambda *_: seen.append((layer.training, torch.is_inference_mode_enabled())))
        competitor = Competitor('a', layer, (torch.ones(8),))
        Run(competitor, Case('block', 'm', SMALL, 'a', [competitor]))()
        assert seen == [(False, True)]

    def test_nothing_is_random_while_results_are_compared(self):
        model = nn.Sequential(nn.Dropout(0.5), AttNet(TINY, drop_path_rate=0.3))
        with deterministic(model):
            assert model[0].p == 0 and model[1].stages[3][0].drop_path.rate == 0
        assert model[0].p == 0.5 and model[1].stages[3][0].drop_path.rate == 0.3

    def test_leaves(self):
        a, b, c = torch.ones(1), torch.ones(2), torch.ones(3)
        assert leaves([a, (b, None), {'c': [c]}]) == [a, b, c]


class TestCases:
    def test_every_token_mixer_keeps_the_shape(self):
        case = blocks.block_case(replace(SMALL, size=(20, 13)))
        names = [competitor.name for competitor in case.competitors]
        expected = ['ours', 'released', 'window', 'spatial-reduction', 'inline', 'hydra', 'grid', 'depthwise']
        has_timm = find_spec('timm') is not None
        assert names == [name for name in expected if has_timm or name != 'grid']
        assert all(c.function(*c.inputs).shape == (2, 32, 20, 13) for c in case.competitors)
        assert any('cross-shaped' in reason for reason in case.left_out)
        assert any('grid' in reason for reason in case.left_out) != has_timm

    @pytest.mark.parametrize(('name', 'reference'), [('atconv-pvt-tiny', 'pvt'), ('atconv-swin-tiny', 'swin')])
    def test_originals_of_the_same_size(self, name, reference):
        case = backbones.backbone_case(name, replace(SMALL, size=(64, 64)))
        assert [c.name for c in case.competitors] == ['ours', 'released', 'static', reference]
        assert case.reference == reference
        shapes = [[tuple(x.shape) for x in c.function(*c.inputs)] for c in case.competitors]
        assert shapes[0] == shapes[1] == shapes[2] == shapes[3]

    def test_chosen_competitors_keep_what_checks_them(self):
        case = operators.operator_case(SMALL)
        chosen = cases.choose(case, ['ours', 'copy'], None)
        assert [(c.name, c.timed) for c in chosen.competitors] == [('ours', True), ('grouped', False), ('copy', True)]
        assert chosen.reference == 'ours'
        chosen = cases.choose(case, ['ours'], 'static')
        assert [c.name for c in chosen.competitors if c.timed] == ['ours', 'static']
        assert chosen.reference == 'static'
        assert [e.name for e in measure.measure(chosen, 1, 0, lambda call, times: times).measured] == ['ours', 'static']

    @pytest.mark.parametrize(('names', 'reference'), [(['fast'], None), (None, 'fast')])
    def test_unknown_competitors_list_what_exists(self, names, reference):
        with pytest.raises(UserError, match="no competitor 'fast'; choose from ours, grouped, unfold, static, copy"):
            cases.choose(operators.operator_case(SMALL), names, reference)

    def test_out_of_memory_leaves_the_others(self):
        def greedy(x, kernel):
            raise torch.cuda.OutOfMemoryError('CUDA out of memory')

        case = operators.operator_case(SMALL)
        case.competitors = [*case.competitors, Competitor('greedy', greedy, case.competitors[0].inputs)]
        found = measure.measure(case, 1, 0, lambda call, times: times)
        assert found.failed == ['greedy'] and len(found.measured) == 5

    def test_settings_of_a_level(self):
        level = cases.LEVELS['operator']
        found = cases.settings(level, Setting(), ['forward', 'backward'], [(8, 8)], None, None)
        assert [(s.mode, s.memory_format, s.size, s.batch) for s in found] == [
            (mode, memory_format, (8, 8), 4)
            for mode in ('forward', 'backward')
            for memory_format in ('contiguous', 'channels_last')
        ]

    def test_head_channels(self):
        with pytest.raises(UserError, match='--channels 48 must be a multiple of 32'):
            blocks.block_case(replace(SMALL, channels=48))


class TestDetectors:
    def test_names(self):
        names = list(detectors.available())
        assert {'mask-rcnn_attnet-t2', 'mask-rcnn_atconv-swin-b', 'fpn_atconv-pvt-l'} <= set(names)
        assert len(names) == 14 + 11 and not any('_pvt-' in name for name in names)

    def test_boxes_are_in_their_images(self):
        boxes = detectors.random_boxes(5, replace(SMALL, size=(40, 90)))
        assert boxes.shape == (10, 5) and boxes[:, 0].tolist() == [0] * 5 + [1] * 5
        assert (boxes[:, 1:3] <= boxes[:, 3:]).all() and boxes.min() >= 0
        assert boxes[:, 4].max() <= 40 < boxes[:, 3].max() <= 90

    def test_mask_rcnn_works_on_its_boxes(self):
        setting = replace(SMALL, size=(64, 64), rois=(3, 2))
        from mmatconv.engine.configfile import load_config

        network = detectors.wrap(load_config(detectors.available()['mask-rcnn_attnet-xxs']), setting).eval()
        with torch.inference_mode():
            rpn, boxes, masks = network(setting.random(3))
        assert [tuple(scores.shape) for scores in rpn[0]] == [(2, 3, side, side) for side in (16, 8, 4, 2, 1)]
        assert [tuple(tensor.shape) for tensor in boxes] == [(6, 81), (6, 320)]
        assert masks.shape == (4, 80, 28, 28)

    def test_segmentor_with_pvt_and_released(self):
        case = detectors.detector_case('fpn_atconv-pvt-t', replace(SMALL, size=(64, 64), batch=1))
        found = measure.measure(case, 1, 0, lambda call, times: times)
        assert [entry.name for entry in found.measured] == ['ours', 'released', 'static', 'pvt']
        assert found.measured[0].error < 1e-4 and case.reference == 'pvt'
        assert case.competitors[0].function(*case.competitors[0].inputs)[0].shape == (1, 150, 16, 16)


def test_plot_is_a_picture(tmp_path):
    outcomes = [outcome(dict(a=side, b=2 * side), dict(a=side, b=side), size=(side, side)) for side in (8, 16, 32)]
    plot(outcomes, tmp_path / 'figure.png', 'made by a test')
    from matplotlib.image import imread

    image = imread(tmp_path / 'figure.png')
    assert min(image.shape[:2]) > 400 and image.std() > 0.01
