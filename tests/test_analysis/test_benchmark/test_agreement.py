"""What the benchmark compares is equal, or is not timed; and what one run of it does."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

from mmatconv import AttNet, UserError, dynamic_depthwise_conv2d
from mmatconv.analysis.benchmark import agreement, backbones, blocks, measure, operators
from mmatconv.analysis.benchmark.case import Candidate, Case, Setting
from mmatconv.analysis.benchmark.memory import held_bytes
from mmatconv.analysis.benchmark.runs import Run, leaves, without_dropout

SMALL = Setting(size=(9, 7), batch=2, channels=32)
TINY = dict(depths=(1, 1, 2, 1), dims=(8, 16, 24, 32))


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
            (lambda x, kernel: operators.grouped(x, kernel) * 1.001, 'forward', 'output 0'),
            (lambda x, kernel: operators.grouped(x, kernel) * float('nan'), 'forward', 'output 0'),
            (lambda x, kernel: operators.grouped(x, kernel)[:, :-1], 'forward', 'output 0'),
            (WrongGradient.apply, 'backward', 'gradient of input [01]'),
            (lambda x, kernel: operators.grouped(x, kernel.detach()), 'backward', 'gradient of input [01]'),
        ],
    )
    @pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
    def test_wrong_results_are_never_timed(self, monkeypatch, wrong, mode, kind, dtype):
        if dtype == 'bfloat16' and kind == 'output 0':
            good = wrong
            # Below the rounding of bfloat16 an error of 0.001 is none.
            wrong = lambda x, kernel: good(x, kernel) * 1.1  # noqa: E731
        monkeypatch.setattr(operators, 'dynamic_depthwise_conv2d', wrong)
        case = operators.operator_case(replace(SMALL, mode=mode, dtype=dtype))
        with pytest.raises(UserError, match=f"'ours' and 'grouped' .* in {kind} .* no speed is reported"):
            measure.measure(case, 1, 0, never)

    def test_an_inaccurate_tensor_does_not_excuse_the_others(self):
        def original(x, factor=2.0):
            # 256 + x keeps a whole number of x in bfloat16: an error of a half in the first output.
            return [(x + 256) - 256, factor * x, 3 * x]

        def case_with(factor):
            x = torch.randn(64).bfloat16()
            candidates = [
                Candidate('original', original, (x,)),
                Candidate('ours', lambda x: original(x, factor), (x,), equal_to='original'),
            ]
            return Case('operator', 'm', replace(SMALL, dtype='bfloat16'), 'original', candidates)

        def check(case):
            return agreement.check_agreement(case, {c.name: Run(c, case) for c in case.candidates})

        assert check(case_with(2.0))['ours'] > 0.1
        with pytest.raises(UserError, match='in output 1'):
            check(case_with(2.1))

    def test_tf32_is_off_while_results_are_compared(self, monkeypatch):
        monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', True)
        seen = []

        def ours(x, kernel):
            seen.append((torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32))
            return operators.grouped(x, kernel)

        monkeypatch.setattr(operators, 'dynamic_depthwise_conv2d', ours)
        case = operators.operator_case(SMALL)
        agreement.check_agreement(case, {c.name: Run(c, case) for c in case.candidates})
        assert seen == [(False, False)] and torch.backends.cudnn.allow_tf32

    @pytest.mark.parametrize('mode', ['forward', 'backward'])
    @pytest.mark.parametrize('memory_format', ['contiguous', 'channels_last'])
    @pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16'])
    def test_operators_agree(self, mode, memory_format, dtype):
        setting = replace(SMALL, mode=mode, memory_format=memory_format, dtype=dtype, kernel_size=5)
        case = operators.operator_case(setting)
        errors = agreement.check_agreement(case, {c.name: Run(c, case) for c in case.candidates})
        assert set(errors) == {'ours', 'unfold'}
        assert max(errors.values()) < dict(float32=1e-5, bfloat16=2e-2, float16=2e-3)[dtype]

    def test_static_equals_dynamic_with_equal_kernels(self):
        x, weight = torch.randn(2, 4, 6, 5), torch.randn(4, 1, 3, 3)
        kernel = weight.transpose(0, 1).expand(2, -1, -1, -1)
        assert torch.allclose(operators.static(x, weight), dynamic_depthwise_conv2d(x, kernel), atol=1e-5)

    @pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
    def test_token_mixers_agree(self, dtype):
        case = blocks.block_case(replace(SMALL, mode='backward', dtype=dtype))
        runs = {c.name: Run(c, case) for c in case.candidates if c.name in ('ours', 'released')}
        errors = agreement.check_agreement(case, runs)
        assert list(errors) == ['ours'] and errors['ours'] < (1e-4 if dtype == 'float32' else 5e-2)

    @pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
    def test_backbones_agree_in_training(self, monkeypatch, dtype):
        monkeypatch.setattr(AttNet, 'arch_settings', dict(XXS=dict(**TINY, drop_path_rate=0.3)))
        case = backbones.backbone_case('attnet-xxs', replace(SMALL, mode='step', size=(64, 64), dtype=dtype))
        runs = {c.name: Run(c, case) for c in case.candidates}
        assert list(runs) == ['ours', 'released', 'static']
        assert list(agreement.check_agreement(case, runs)) == ['ours']
        assert [layer.rate for layer in runs['ours'].module.modules() if hasattr(layer, 'rate')][-1] == 0.3

    def test_a_broken_backbone_is_found(self, monkeypatch):
        monkeypatch.setattr(AttNet, 'arch_settings', dict(XXS=TINY))
        case = backbones.backbone_case('attnet-xxs', replace(SMALL, size=(64, 64), fold=True))
        with torch.no_grad():
            case.candidates[1].function.stages[2][0].token_mixer.x_proj.weight[0, 0] += 1
        with pytest.raises(UserError, match="'folded' and 'released'"):
            measure.measure(case, 1, 0, never)


class TestModes:
    def test_training_step_costs_a_step_and_changes_nothing(self):
        layer = nn.Linear(3, 2)
        before = layer.weight.detach().clone()
        candidate = Candidate('a', layer, (torch.randn(4, 3),), differentiable=1)
        run = Run(candidate, Case('block', 'm', replace(SMALL, mode='step'), 'a', [candidate]))
        run()
        assert torch.equal(layer.weight, before)
        assert layer.weight.grad is None and candidate.inputs[0].grad is None
        assert run.optimizer.state[layer.weight]['exp_avg'].abs().sum() > 0
        # Weights and biases with two moments and a counter each, the input, the gradient of the output.
        assert held_bytes(run.held()) == 4 * (3 * (6 + 2) + 2 + 12 + 8)

    def test_forward_is_inference(self):
        seen = []
        layer = nn.Dropout(0.5)
        layer.register_forward_hook(lambda *_: seen.append((layer.training, torch.is_inference_mode_enabled())))
        candidate = Candidate('a', layer, (torch.ones(8),))
        Run(candidate, Case('block', 'm', SMALL, 'a', [candidate]))()
        assert seen == [(False, True)]

    def test_nothing_is_random_while_results_are_compared(self):
        model = nn.Sequential(nn.Dropout(0.5), AttNet(TINY, drop_path_rate=0.3))
        with without_dropout(model):
            assert model[0].p == 0 and model[1].stages[3][0].drop_path.rate == 0
        assert model[0].p == 0.5 and model[1].stages[3][0].drop_path.rate == 0.3

    def test_a_compiled_model_is_compiled_once(self, monkeypatch):
        counter, compile = CompileCounter(), torch.compile
        monkeypatch.setattr(torch, 'compile', lambda function: compile(function, backend=counter))
        model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Dropout(0.5))
        candidate = Candidate('a', model, (torch.randn(2, 3, 4, 4),))
        run = Run(candidate, Case('backbone', 'm', replace(SMALL, mode='backward', compiled=True), 'a', [candidate]))
        run()
        assert counter.frame_count == 1
        agreement.results(run)
        run()
        assert counter.frame_count == 1

    def test_leaves(self):
        a, b, c = torch.ones(1), torch.ones(2), torch.ones(3)
        assert leaves([a, (b, None), {'c': [c]}]) == [a, b, c]
