"""The configs of table VII: names, recipe, and a training step on 64 pixels."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.registry import TRANSFORMS, DefaultScope

from ..reading import read_config

CONFIGS = sorted(str(path) for path in Path('configs/retrieval').glob('*.py'))


def test_every_config_is_there():
    names = {f'attnet-{size}_1xb64-81e_{data}-224px' for size in ('t1', 't2') for data in ('llcm', 'vcm')}
    assert {Path(path).stem for path in CONFIGS} == names


@pytest.mark.parametrize('path', CONFIGS)
def test_file_name_says_what_is_inside(path):
    size, batch, epochs, data, pixels = re.fullmatch(
        r'attnet-(t\d)_1xb(\d+)-(\d+)e_(\w+)-(\d+)px', Path(path).stem
    ).groups()
    config = read_config(path)
    assert config.model.backbone.arch == size.upper() and f'attnet-{size}_' in config.model.backbone.init_cfg.checkpoint
    assert config.model.head.num_classes == dict(llcm=713, vcm=500)[data]
    assert config.train_cfg.max_epochs == int(epochs)
    train = config.train_dataloader
    assert (train.batch_size, config.auto_scale_lr.base_batch_size) == (int(batch), int(batch))
    # Eight identities with as many images of each modality.
    assert train.batch_size == 8 * 2 * train.sampler['images']
    for loader, split in ((train, 'train'), (config.val_dataloader, 'test'), (config.test_dataloader, 'test')):
        assert loader.dataset.type == f'mmatconv.{data.upper()}' and loader.dataset.split == split
        scale = next(step.scale for step in loader.dataset.pipeline if step.type == 'Resize')
        assert scale == (int(pixels), int(pixels))
    assert config.val_evaluator == config.test_evaluator
    assert config.val_evaluator.get('trials', 0) == dict(llcm=10, vcm=0)[data]


def test_learning_rate_is_that_of_the_baseline():
    """0.01 to 0.1 over ten epochs, a tenth from the twentieth and again from the fiftieth; a tenth for the backbone."""
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import PARAM_SCHEDULERS

    config = read_config(CONFIGS[0])
    model = torch.nn.ModuleDict(dict(backbone=torch.nn.Linear(2, 2), head=torch.nn.Linear(2, 2)))
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    schedulers = [PARAM_SCHEDULERS.build(dict(cfg, optimizer=wrapper)) for cfg in config.param_scheduler]
    rates = []
    for _ in range(config.train_cfg.max_epochs):
        wrapper.step()
        rates.append([wrapper.param_groups[index]['lr'] for index in (0, 2)])
        for scheduler in schedulers:
            scheduler.step()
    for epoch, factor in ((0, 0.1), (4, 0.5), (9, 1), (19, 1), (20, 0.1), (49, 0.1), (50, 0.01), (80, 0.01)):
        assert rates[epoch] == pytest.approx([0.01 * factor, 0.1 * factor])


def test_transforms_keep_what_evaluation_reads(tmp_path):
    import cv2
    import numpy as np
    from mmpretrain.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    cv2.imwrite(str(tmp_path / 'a.png'), np.full((40, 20, 3), 200, np.uint8))
    config = read_config(CONFIGS[0])
    fields = dict(person_id=3, camera_id=2, modality='infrared', track_id=7)
    for loader in (config.train_dataloader, config.test_dataloader):
        results = dict(img_path=str(tmp_path / 'a.png'), **fields)
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            for step in loader.dataset.pipeline:
                results = TRANSFORMS.build(step)(results)
        assert results['inputs'].shape == (3, 224, 224)
        assert {name: results['data_samples'].get(name) for name in fields} == fields
