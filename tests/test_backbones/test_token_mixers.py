"""Token mixers by name: options, one value for each stage, a user's own, errors."""

import pytest
import torch
from torch import nn

from mmatconv import ATConv, ATConvPVT, ATConvSwin, AttNet
from mmatconv.backbones import TOKEN_MIXERS

ARCH = dict(depths=[1, 2, 1, 1], dims=[8, 12, 20, 24])


class Scale(nn.Module):
    """A mixer of a user: multiplies, and remembers which block it was built for."""

    def __init__(self, dim, factor=2.0, block=0):
        super().__init__()
        self.dim, self.factor, self.block = dim, factor, block

    def forward(self, x):
        return x * self.factor


class Picky(nn.Module):
    """A mixer of a user that refuses its channels."""

    def __init__(self, dim):
        raise ValueError(f'not {dim}')


def mixers(model):
    return [[block.token_mixer for block in stage] for stage in model.stages]


@pytest.mark.parametrize('backbone', [AttNet, ATConvPVT, ATConvSwin])
def test_atconv_is_the_default_and_takes_its_options_from_the_backbone(backbone):
    default = backbone({**ARCH, 'kernel_sizes': [7, 5, 3, 3]}, context_pool='grid')
    assert all(type(mixer) is ATConv and mixer.context_pool == 'grid' for stage in mixers(default) for mixer in stage)
    assert [[mixer.kernel_size for mixer in stage] for stage in mixers(default)] == [[7], [5, 5], [3], [3]]
    given = backbone(ARCH, token_mixer=dict(type='ATConv', kernel_size=[7, 5, 3, 3], context_pool='grid', bias=False))
    assert [[mixer.kernel_size for mixer in stage] for stage in mixers(given)] == [[7], [5, 5], [3], [3]]
    assert mixers(given)[0][0].proj.bias is None


def test_a_dict_for_each_stage_mixes_types():
    model = AttNet(ARCH, token_mixer=[dict(type=Scale, factor=f) for f in (1, 2, 3)] + [dict(type='ATConv')])
    assert [type(stage[0]) for stage in mixers(model)] == [Scale, Scale, Scale, ATConv]
    assert [(m.dim, m.factor, m.block) for m in mixers(model)[1]] == [(12, 2, 0), (12, 2, 1)]
    assert torch.isfinite(model(torch.randn(1, 3, 64, 64))[-1]).all()


def test_a_mixer_of_ones_own_by_name_and_by_path():
    TOKEN_MIXERS.register_module(name='TestScale', module=Scale)
    try:
        assert isinstance(mixers(AttNet(ARCH, token_mixer=dict(type='TestScale')))[0][0], Scale)
    finally:
        del TOKEN_MIXERS.module_dict['TestScale']
    by_path = AttNet(ARCH, token_mixer=dict(type='mmatconv.layers.atconv.ATConv'))
    assert type(mixers(by_path)[0][0]) is ATConv


@pytest.mark.parametrize(
    ('token_mixer', 'message'),
    [
        (
            dict(type='Attention'),
            "no token mixer 'Attention'; choose from ACmix.*, ATConv, .*, or register",
        ),
        (dict(type='ATConv', heads=2), "ATConv has no option 'heads'; it has kernel_size, bias, context_pool, and dim"),
        (dict(type='ATConv', kernel_size=[3, 5]), 'kernel_size is a list of 2, but there are 4 stages'),
        ([dict(type='ATConv')], 'token_mixer is a list of 1, but there are 4 stages'),
        (dict(kernel_size=3), "must be a dict with the entry 'type', but is {'kernel_size': 3}"),
        ('ATConv', "must be a dict with the entry 'type', but is 'ATConv'"),
        (dict(type='ATConv', context_pool='ring'), '^ATConv in stage 0 of token_mixer: .* one of flat, grid'),
        (
            dict(type='InLineAttention', num_heads=[2, 5, 2, 2]),
            'InLineAttention in stage 1 of token_mixer: num_heads must divide the 12 channels .* but is 5',
        ),
        (dict(type=Picky), 'Picky in stage 0 of token_mixer: not 8'),
    ],
)
def test_what_does_not_exist_is_named_with_what_does(token_mixer, message):
    with pytest.raises(ValueError, match=message):
        AttNet(ARCH, token_mixer=token_mixer)


def test_merging_is_checked():
    with pytest.raises(ValueError, match="one of conv, linear, but is 'pool'"):
        ATConvSwin(ARCH, merging='pool')
