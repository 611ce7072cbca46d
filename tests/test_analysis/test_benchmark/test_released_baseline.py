"""The paper's expression as a candidate: equal to our backbones and to the released code, without sharing code."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from mmatconv import ATConvPVT, ATConvSwin, AttNet, UserError
from mmatconv.analysis.benchmark.random_weights import randomize
from mmatconv.analysis.benchmark.released_baseline import ReleasedBackbone

DATA = Path(__file__).parents[2] / 'data'
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
