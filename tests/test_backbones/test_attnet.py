"""AttNet against the released code: golden tensors, counts, names."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from mmatconv import AttNet

DATA = Path(__file__).parents[1] / 'data'
CASES = [('attnet_tiny', '2x64x64'), ('attnet_tiny', '1x50x77'), ('attnet_tiny_k7533_nonorm', '2x64x96')]
PARAMETERS = {
    'XXS': 2_853_556,
    'XS': 5_554_902,
    'S': 7_681_316,
    'T1': 13_714_900,
    'T2': 27_010_782,
    'T3': 49_175_682,
    'T4': 87_320_214,
}


def read_golden(name):
    with safe_open(DATA / f'{name}.safetensors', 'pt') as file:
        config = json.loads(file.metadata()['config'])
        return config, {key: file.get_tensor(key) for key in file.keys()}


def relative_error(actual, expected):
    return ((actual - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(('name', 'case'), CASES)
def test_golden_tensors(name, case, memory_format):
    config, tensors = read_golden(name)
    arch = dict(
        depths=config['depths'],
        dims=config['dims'],
        exp_rates=config['exp_rates'],
        kernel_sizes=config['kernel_sizes'],
        layer_scale=config['use_layer_scale'],
        glu_norm=config['glu_norm'][0],
    )
    weights = {key.removeprefix('weights/'): value for key, value in tensors.items() if key.startswith('weights/')}
    dense = AttNet(arch).double().eval().to(memory_format=memory_format)
    classifier = AttNet(arch, gap_before_final_norm=True).double().eval().to(memory_format=memory_format)
    head = nn.Linear(config['dims'][-1], config['num_classes']).double()
    classifier.load_state_dict({key: value for key, value in weights.items() if not key.startswith('head.')})
    dense.load_state_dict(classifier.state_dict(), strict=False)
    head.load_state_dict({key[5:]: value for key, value in weights.items() if key.startswith('head.')})

    x = tensors[f'{case}/input'].contiguous(memory_format=memory_format).requires_grad_()
    stages = dense(x)
    logits = head(classifier(x)[0])
    (sum((stage**2).mean() for stage in stages) + logits.sum()).backward()
    for i, stage in enumerate(stages):
        assert relative_error(stage, tensors[f'{case}/stage{i}']) < 1e-10
    assert relative_error(logits, tensors[f'{case}/logits']) < 1e-10
    assert relative_error(x.grad, tensors[f'{case}/grad_input']) < 1e-10


@pytest.mark.parametrize('arch', PARAMETERS)
def test_parameter_counts_with_the_1000_way_head(arch):
    with torch.device('meta'):
        model = AttNet(arch.lower(), gap_before_final_norm=True)
        head = nn.Linear(model.dims[-1], 1000)
    assert sum(p.numel() for m in (model, head) for p in m.parameters()) == PARAMETERS[arch]


@pytest.mark.parametrize('arch', ['XXS', 'T2'])
def test_state_dict_is_the_released_one(arch):
    released = json.loads((DATA / 'official_state_dicts.json').read_text())[arch]
    expected = {name: tuple(shape) for name, shape in released.items() if not name.startswith('head.')}
    state = AttNet(arch, gap_before_final_norm=True).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == expected


def test_released_drop_path_rates_unless_told_otherwise():
    assert AttNet('T1').stages[-1][-1].drop_path.rate == pytest.approx(0.1)
    assert AttNet('T1').stages[0][0].drop_path.rate == 0
    assert AttNet('XXS', drop_path_rate=0.3).stages[-1][-1].drop_path.rate == pytest.approx(0.3)


def test_context_pool_reaches_every_mixer():
    model = AttNet('XXS', context_pool='grid')
    assert {block.token_mixer.context_pool for stage in model.stages for block in stage} == {'grid'}


def test_an_arch_of_ones_own():
    model = AttNet(dict(depths=[1, 2], dims=[8, 16], exp_rates=[4, 2], kernel_sizes=5, layer_scale=False))
    assert [output.shape[1] for output in model(torch.randn(1, 3, 32, 32))] == [8, 16]
    assert model.stages[1][1].token_mixer.kernel_size == 5


@pytest.mark.parametrize(
    ('arch', 'named'),
    [
        ('T5', "'T5'; choose from XXS, XS, S, T1, T2, T3, T4"),
        (dict(depths=[1]), "needs the entry 'dims'"),
        (dict(depths=[1], dims=[8], heads=[1]), "no entry 'heads'; it may have depths, dims"),
        (dict(depths=[1, 1, 1, 1], dims=[8, 8, 8]), '3 dims for 4 depths'),
    ],
)
def test_a_wrong_arch_is_named(arch, named):
    with pytest.raises(ValueError, match=named):
        AttNet(arch)
