"""Layer-wise learning-rate decay on classifiers, detectors and segmentors of all three families."""

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope

CONSTRUCTOR = 'mmatconv.LayerDecayOptimWrapperConstructor'
RATE = 0.5
ARCH = dict(depths=[1, 1, 2, 1], dims=[8, 12, 20, 24])
LAYERS = 7
FAMILIES = ['AttNet', 'ATConvPVT', 'ATConvSwin']


def wrapper_of(model, constructor=CONSTRUCTOR):
    config = dict(
        type='OptimWrapper',
        optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.1),
        constructor=constructor,
        paramwise_cfg=dict(layer_decay_rate=RATE, norm_decay_mult=0.0, flat_decay_mult=0.0),
    )
    return build_optim_wrapper(model, Config(dict(optim_wrapper=config)).optim_wrapper)


def rates_of(model, wrapper):
    rates = {id(p): group['lr'] for group in wrapper.param_groups for p in group['params']}
    return {name: rates[id(p)] for name, p in model.named_parameters()}


def backbone_of(family):
    return dict(type=f'mmatconv.{family}', arch=ARCH)


def classifier(family):
    from mmpretrain.registry import MODELS
    from mmpretrain.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    head = dict(type='LinearClsHead', num_classes=10, in_channels=24)
    backbone = dict(**backbone_of(family), gap_before_final_norm=True)
    return MODELS.build(dict(type='ImageClassifier', backbone=backbone, head=head))


def segmentor(family):
    from mmseg.registry import MODELS
    from mmseg.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    head = dict(type='FCNHead', in_channels=24, in_index=3, channels=8, num_convs=1, num_classes=4)
    return MODELS.build(dict(type='EncoderDecoder', backbone=backbone_of(family), decode_head=head))


def check(model, rates, head):
    expected = {'downsample_layers.0': 0, 'stages.0.0': 1, 'downsample_layers.1': 2, 'stages.1.0': 2}
    expected |= {'stages.2.0': 3, 'stages.2.1': 4, 'stages.3.0': 5}
    for start, layer in expected.items():
        found = {rate for name, rate in rates.items() if name.startswith(f'backbone.{start}.')}
        assert found == {RATE ** (LAYERS - 1 - layer)}, start
    assert {rate for name, rate in rates.items() if name.startswith(head)} == {1.0}


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('constructor', [CONSTRUCTOR, 'mmpretrain.LearningRateDecayOptimWrapperConstructor'])
def test_classifier(family, constructor):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = classifier(family)
        wrapper = wrapper_of(model, constructor)
    check(model, rates_of(model, wrapper), 'head.')
    assert {rate for name, rate in rates_of(model, wrapper).items() if name.startswith('backbone.norm.')} == {1.0}


@pytest.mark.parametrize('family', FAMILIES)
def test_segmentor_and_its_decay(family):
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = segmentor(family)
        wrapper = wrapper_of(model)
    check(model, rates_of(model, wrapper), 'decode_head.')
    decay = {id(p): group['weight_decay'] for group in wrapper.param_groups for p in group['params']}
    for name, parameter in model.named_parameters():
        assert decay[id(parameter)] == (0 if parameter.ndim == 1 else 0.1), name


def test_a_backbone_without_layers_is_named():
    model = torch.nn.Module()
    model.backbone = torch.nn.Conv2d(3, 8, 3)
    with pytest.raises(ValueError, match='Conv2d has no get_layer_depth, which layer-wise learning-rate decay needs'):
        wrapper_of(model)
