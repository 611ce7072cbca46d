"""Every config parses, builds, trains one step, and says what the paper and its recipe say."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / 'configs').rglob('*.py') if '_base_' not in path.parts)


def load(path):
    config = Config.fromfile(path)
    config.model.backbone.init_cfg = None
    return config


def build(config):
    scope = config.default_scope
    with DefaultScope.overwrite_default_scope(scope):
        if scope == 'mmdet':
            from mmdet.registry import MODELS
            from mmdet.utils import register_all_modules
        else:
            from mmseg.registry import MODELS
            from mmseg.utils import register_all_modules
        register_all_modules(init_default_scope=False)
        torch.manual_seed(0)
        return MODELS.build(config.model)


def batch_for(config, size=64):
    """Two random images with targets, through the model's own preprocessor."""
    if config.default_scope == 'mmdet':
        from mmdet.testing import demo_mm_inputs

        classes = config.model.roi_head.bbox_head.num_classes
        return demo_mm_inputs(2, [[3, size, size]] * 2, num_items=[2, 3], num_classes=classes, with_mask=True)
    from mmseg.structures import SegDataSample

    samples = []
    for _ in range(2):
        labels = torch.randint(config.model.decode_head.num_classes, (1, size, size))
        samples.append(SegDataSample(gt_sem_seg=PixelData(data=labels), metainfo=dict(img_shape=(size, size))))
    return dict(inputs=[torch.randint(256, (3, size, size), dtype=torch.uint8)] * 2, data_samples=samples)


def test_there_are_configs():
    assert len(CONFIGS) >= 6


@pytest.mark.parametrize('path', CONFIGS)
def test_builds_and_trains_one_step(path):
    config = load(path)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        model = build(config).train()
        data = model.data_preprocessor(batch_for(config), True)
        losses = model(**data, mode='loss')
        total, values = model.parse_losses(losses)
        total.backward()
        assert torch.isfinite(total) and total > 0 and len(values) > 2
        without = [name for name, p in model.backbone.named_parameters() if p.requires_grad and p.grad is None]
        assert not without, 'DistributedDataParallel would wait for these gradients'

        wrapper = build_optim_wrapper(model, config.optim_wrapper)
        before = {name: p.detach().clone() for name, p in model.backbone.named_parameters()}
        wrapper.step()
        assert any(not torch.equal(p, before[name]) for name, p in model.backbone.named_parameters())
        check_decay(model, wrapper, config)


def check_decay(model, wrapper, config):
    """No weight decay on norms, biases, LayerScale and difference_control; the recipe's on all weights."""
    decay = {id(p): group['weight_decay'] for group in wrapper.param_groups for p in group['params']}
    expected = config.optim_wrapper.optimizer.weight_decay
    for name, parameter in model.named_parameters():
        flat = parameter.ndim == 1
        assert decay[id(parameter)] == (0 if flat else expected), name
    assert any('difference_control' in name for name, p in model.named_parameters() if p.ndim == 1)


@pytest.mark.parametrize('path', CONFIGS)
def test_file_name_says_what_is_inside(path):
    config = Config.fromfile(path)
    name = Path(path).stem
    arch = re.search(r'(attnet|atconv-pvt)-(\w+?)_', name)
    kind, size = arch.groups()
    backbone = config.model.backbone
    assert backbone.type == {'attnet': 'mmatconv.AttNet', 'atconv-pvt': 'mmatconv.ATConvPVT'}[kind]
    assert backbone.arch.lower().startswith(size)
    assert config.auto_scale_lr.enable is False and config.auto_scale_lr.base_batch_size > 0
    channels = build(load(path)).backbone.dims
    assert list(config.model.neck.in_channels) == list(channels)


@pytest.mark.parametrize('path', [path for path in CONFIGS if 'coco' in path])
def test_coco_recipe(path):
    config = Config.fromfile(path)
    pvt = 'atconv-pvt' in path
    optimizer = config.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', *((2e-4, 1e-4) if pvt else (1e-4, 0.05)))
    assert config.train_cfg.max_epochs == 12
    assert [s.milestones for s in config.param_scheduler if s.type == 'MultiStepLR'] == [[8, 11]]
    assert config.auto_scale_lr.base_batch_size == 16 == 8 * config.train_dataloader.batch_size
    assert config.train_dataloader.dataset.data_root == 'data/coco/'
    assert config.model.backbone.init_cfg.checkpoint.startswith('checkpoints/')
    assert config.pretrained_hint


@pytest.mark.parametrize('path', [path for path in CONFIGS if 'ade20k' in path])
def test_ade20k_recipe(path):
    config = Config.fromfile(path)
    optimizer = config.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 1e-4, 1e-4)
    assert config.train_cfg.max_iters == 40000
    (schedule,) = config.param_scheduler
    assert (schedule.type, schedule.power, schedule.end) == ('PolyLR', 0.9, 40000)
    assert config.auto_scale_lr.base_batch_size == 32 == 8 * config.train_dataloader.batch_size
    assert config.train_dataloader.dataset.data_root == 'data/ade/ADEChallengeData2016'
    assert config.model.decode_head.num_classes == 150
    assert config.model.backbone.init_cfg.checkpoint.startswith('checkpoints/')


def test_quickstart_names_the_classes_of_the_generated_data():
    from mmatconv.datasets import CLASSES, PALETTE, SEG_CLASSES

    detection = Config.fromfile('configs/quickstart/mask-rcnn_attnet-xxs_fpn_shapes.py')
    assert detection.train_dataloader.dataset.metainfo.classes == CLASSES
    segmentation = Config.fromfile('configs/quickstart/fpn_attnet-xxs_shapes.py')
    assert segmentation.train_dataloader.dataset.metainfo.classes == SEG_CLASSES
    palettes = [config.train_dataloader.dataset.metainfo.palette for config in (segmentation, detection)]
    assert [tuple(colour) for colour in palettes[0]] == list(PALETTE)
    assert [tuple(colour) for colour in palettes[1]] == list(PALETTE[1:])
