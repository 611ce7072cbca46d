"""The configs of SiT: what their names and recipes say, and a training step of each kind."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope

from ..reading import read_config

FOLDER = Path('configs/sit')
CONFIGS = sorted(str(path) for path in FOLDER.glob('*.py'))
LATENTS = [path for path in CONFIGS if 'latents' in path]
MIXERS = {'sit': 'attention', 'sit-hybrid': 'hybrid', 'sit-atconv': 'atconv'}


def test_every_named_config_is_there():
    names = {Path(path).stem for path in LATENTS}
    sizes = ('s', 'b', 'l', 'xl')
    assert names == {
        *(f'{name}-{size}_8xb32-400k_in1k-latents-256px' for name in MIXERS for size in sizes),
        *(f'sit-atconv-{size}_8xb16-400k_ffhq-latents-512px' for size in sizes),
    }


@pytest.mark.parametrize('path', LATENTS)
def test_file_name_says_what_is_inside(path):
    pattern = r'(sit|sit-hybrid|sit-atconv)-(s|b|l|xl)_8xb(\d+)-400k_(in1k|ffhq)-latents-(\d+)px'
    name, size, batch, data, pixels = re.fullmatch(pattern, Path(path).stem).groups()
    config = read_config(path)
    network = config.model.backbone
    assert (network.token_mixer, network.arch) == (MIXERS[name], f'{size.upper()}/2')
    assert (network.input_size, network.in_channels) == (int(pixels) // 8, 4)
    assert (network.num_classes, network.class_dropout_prob) == ((1000, 0.1) if data == 'in1k' else (1, 0.0))
    loader = config.train_dataloader
    assert loader.dataset.get('with_label', True) == (data == 'in1k')
    assert (loader.batch_size, config.auto_scale_lr.base_batch_size) == (int(batch), 8 * int(batch))
    assert config.train_cfg.max_iters == 400_000 and 'param_scheduler' not in config
    assert config.optim_wrapper.type == 'AmpOptimWrapper' and config.optim_wrapper.dtype == 'bfloat16'
    recipe = config.optim_wrapper.optimizer
    assert (recipe.type, recipe.lr, recipe.weight_decay) == ('AdamW', 1e-4, 0)
    (average,) = config.custom_hooks
    assert (average.ema_type, average.momentum) == ('ExponentialMovingAverage', 1e-4)


@pytest.mark.parametrize(
    'path',
    [
        'configs/sit/sit-hybrid-xl_8xb32-400k_in1k-latents-256px.py',
        'configs/sit/sit-atconv-s_8xb16-400k_ffhq-latents-512px.py',
        'configs/sit/sit-hybrid-tiny_one-shapes-16px.py',
    ],
)
def test_trains_a_step(path):
    """With few channels and small maps; samples are in the units of the data."""
    from mmpretrain.structures import DataSample
    from mmpretrain.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    config = read_config(path)
    network = config.model.backbone
    network.update(arch=dict(depth=2, hidden_size=16, num_heads=2, patch_size=2), input_size=8)
    config.optim_wrapper.update(type='OptimWrapper')
    config.optim_wrapper.pop('dtype', None)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(config.model)
        wrapper = build_optim_wrapper(model, config.optim_wrapper)
    latents = config.model.get('latents', False)
    inputs = torch.randn(4, 4, 8, 8) / 0.18215 if latents else torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8)
    samples = [DataSample().set_gt_label(i) if network.num_classes > 1 else DataSample() for i in range(4)]
    # The network begins as zero, so its loss is the mean square of data less noise, both about 1.
    loss = model.train_step(dict(inputs=inputs, data_samples=samples), wrapper)['loss']
    assert 1 < loss < 4
    groups = [group['weight_decay'] for group in wrapper.param_groups]
    assert set(groups) == {0}
    made = model.eval().sample(torch.randn(2, *inputs.shape[1:]), torch.zeros(2, dtype=torch.long), 1, 'euler')
    scale = inputs.float().std()
    assert made.shape == (2, *inputs.shape[1:]) and scale / 4 < made.std() < 4 * scale


def test_labels_beyond_the_classes_are_one_sentence():
    from mmatconv import FlowMatching, UserError

    model = FlowMatching(dict(type='mmatconv.SiT', arch='S/2', num_classes=3))

    class Sample(dict):
        gt_label = torch.tensor([3])

    with pytest.raises(UserError, match='num_classes is 3, but the data set has a label 3'):
        model(torch.randn(1, 4, 32, 32), [Sample(gt_label=3)])
    with pytest.raises(UserError, match="has no mode 'predict'"):
        model(torch.randn(1, 4, 32, 32), mode='predict')
