"""Every detection and segmentation config parses, builds, trains one step, and says what its recipe says.

The classification configs are in test_imagenet_configs.py, those of docs/own_data.md in test_tools/test_own_data.py.
"""

import re
from pathlib import Path

import cv2
import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData

from .reading import read_config

ROOT = Path(__file__).parents[1]
FOLDERS = ('mask_rcnn', 'cascade_rcnn', 'sem_fpn', 'quickstart')
CONFIGS = sorted(str(path.relative_to(ROOT)) for name in FOLDERS for path in (ROOT / 'configs' / name).glob('*.py'))
BACKBONES = {
    'attnet': 'mmatconv.AttNet',
    'atconv-pvt': 'mmatconv.ATConvPVT',
    'atconv-swin': 'mmatconv.ATConvSwin',
    'pvt': 'mmdet.PyramidVisionTransformer',
}
PVT_LAYERS = {'t': [2, 2, 2, 2], 's': [3, 4, 6, 3], 'm': [3, 4, 18, 3], 'l': [3, 8, 27, 3]}
COCO = [path for path in CONFIGS if path.endswith('coco.py')]
# Other schedules of the same models.
SCHEDULES = [path for path in CONFIGS if re.search('_(ms-crop-3x|swin-1x)_', path)]

# Stochastic depth in detection and segmentation. AttNet, ATConv-Swin: the classifier's. PVT: its code, which has none
# in detection for pvt_medium and pvt_large.
DROP_PATH = {
    'attnet': dict(xxs=0.0, xs=0.02, s=0.05, t1=0.1, t2=0.2, t3=0.4, t4=0.5),
    'atconv-swin': dict(t=0.2, s=0.3, b=0.5),
    'pvt in detection': dict(t=0.1, s=0.1, m=0.0, l=0.0),
    'pvt in segmentation': dict(t=0.1, s=0.1, m=0.1, l=0.1),
}


def kind_and_size(path):
    """('attnet', 't2') of 'mask-rcnn_attnet-t2_fpn_1x_coco.py'."""
    return re.search(r'_(attnet|atconv-pvt|atconv-swin|pvt)-(\w+?)_', Path(path).stem).groups()


def has_recipe_of_pvt(path):
    return 'sem_fpn' in path or ('pvt-' in path and 'swin-1x' not in path)


def load(path):
    """The config without its weights and at small size: few RoIs, segmentation not padded to 512 pixels."""
    config = read_config(path)
    config.model.backbone.init_cfg = None
    if 'size' in config.model.data_preprocessor:
        config.model.data_preprocessor.size = (64, 64)
    if 'roi_head' in config.model:
        training = config.model.train_cfg
        training.rpn_proposal.update(nms_pre=100, max_per_img=40)
        for rcnn in training.rcnn if isinstance(training.rcnn, list) else [training.rcnn]:
            rcnn.sampler.num = 16
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

        heads = config.model.roi_head.bbox_head
        classes = (heads[0] if isinstance(heads, list) else heads).num_classes
        return demo_mm_inputs(2, [[3, size, size]] * 2, num_items=[2, 3], num_classes=classes, with_mask=True)
    from mmseg.structures import SegDataSample

    samples = []
    for _ in range(2):
        labels = torch.randint(config.model.decode_head.num_classes, (1, size, size))
        samples.append(SegDataSample(gt_sem_seg=PixelData(data=labels), metainfo=dict(img_shape=(size, size))))
    return dict(inputs=[torch.randint(256, (3, size, size), dtype=torch.uint8)] * 2, data_samples=samples)


def test_every_named_config_is_there():
    names = {path.removeprefix('configs/') for path in CONFIGS}
    for size in ('xxs', 'xs', 's', 't1', 't2', 't3', 't4'):
        assert f'mask_rcnn/mask-rcnn_attnet-{size}_fpn_1x_coco.py' in names
        assert f'sem_fpn/fpn_attnet-{size}_8xb4-40k_ade20k-512x512.py' in names
    for size in ('t2', 't3', 't4'):
        assert f'mask_rcnn/mask-rcnn_attnet-{size}_fpn_ms-crop-3x_coco.py' in names
        for schedule in ('1x', 'ms-crop-3x'):
            assert f'cascade_rcnn/cascade-mask-rcnn_attnet-{size}_fpn_{schedule}_coco.py' in names
    for kind in ('atconv-pvt', 'pvt'):
        for size in 'tsml':
            assert f'mask_rcnn/mask-rcnn_{kind}-{size}_fpn_1x_coco.py' in names
            assert f'mask_rcnn/mask-rcnn_{kind}-{size}_fpn_swin-1x_coco.py' in names
            assert f'sem_fpn/fpn_{kind}-{size}_8xb4-40k_ade20k-512x512.py' in names


@pytest.mark.parametrize('path', SCHEDULES)
def test_another_schedule_trains_the_same_model(path):
    assert read_config(path).model == read_config(re.sub('_(ms-crop-3x|swin-1x)_', '_1x_', path)).model


@pytest.mark.parametrize('path', sorted(set(CONFIGS) - set(SCHEDULES)))
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
        check_decay(model, wrapper, config, has_recipe_of_pvt(path))


def check_decay(model, wrapper, config, everywhere):
    """The recipe's weight decay on all weights; not on norms, biases, LayerScale, difference_control but in PVT's."""
    decay = {id(p): group['weight_decay'] for group in wrapper.param_groups for p in group['params']}
    expected = config.optim_wrapper.optimizer.weight_decay
    for name, parameter in model.named_parameters():
        free = parameter.ndim == 1 and not everywhere
        assert decay[id(parameter)] == (0 if free else expected), name
    if config.model.backbone.type.startswith('mmatconv'):
        assert any('difference_control' in name for name, p in model.named_parameters() if p.ndim == 1)


@pytest.mark.parametrize('path', CONFIGS)
def test_file_name_says_what_is_inside(path):
    config = read_config(path)
    kind, size = kind_and_size(path)
    backbone = config.model.backbone
    assert backbone.type == BACKBONES[kind]
    # docs/padding.md; attention has no such option.
    assert backbone.get('mask_padding', False) == (kind != 'pvt')
    task = 'segmentation' if 'sem_fpn' in path else 'detection'
    rates = DROP_PATH[f'pvt in {task}' if 'pvt' in kind else kind]
    assert backbone.drop_path_rate == (0.0 if 'quickstart' in path else rates[size])
    if kind == 'pvt':
        assert backbone.num_layers == PVT_LAYERS[size]
        channels = [64, 128, 320, 512]
    else:
        assert backbone.arch.lower() == size if kind == 'attnet' else backbone.arch.startswith(size)
        with torch.device('meta'):
            channels = list(type_of(backbone.type)(backbone.arch).dims)
    assert list(config.model.neck.in_channels) == channels
    assert config.model.type == (
        'CascadeRCNN' if 'cascade' in path else 'MaskRCNN' if 'mask' in path else 'EncoderDecoder'
    )
    if 'quickstart' not in path:
        prefix = dict(prefix='backbone.') if kind.startswith('atconv') else {}
        checkpoint = f'checkpoints/{kind}-{size}_in1k.pth'
        assert backbone.init_cfg == dict(type='Pretrained', checkpoint=checkpoint, **prefix)
        assert config.pretrained_hint


def type_of(name):
    import mmatconv

    return getattr(mmatconv, name.split('.')[1])


@pytest.mark.parametrize('path', COCO)
def test_coco_recipe(path):
    config = read_config(path)
    pvt = has_recipe_of_pvt(path)
    # PVT's code trains PVT-Large with half of the images and the rate over 1.4.
    large = pvt and kind_and_size(path)[1] == 'l'
    optimizer = config.optim_wrapper.optimizer
    assert config.optim_wrapper.type == 'OptimWrapper' and not config.optim_wrapper.get('constructor')
    rate = 2e-4 / 1.4 if large else 2e-4 if pvt else 1e-4
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', rate, 1e-4 if pvt else 0.05)
    assert config.optim_wrapper.get('paramwise_cfg') == (None if pvt else dict(norm_decay_mult=0, flat_decay_mult=0))
    epochs, milestones = (36, [27, 33]) if '3x' in path else (12, [8, 11])
    warmup, steps = config.param_scheduler
    assert (config.train_cfg.max_epochs, steps.milestones, steps.end) == (epochs, milestones, epochs)
    assert (warmup.type, warmup.start_factor, warmup.end) == ('LinearLR', 0.001, 500 if pvt else 1000)
    transforms = [step.type for step in config.train_dataloader.dataset.pipeline]
    assert transforms[2:-1] == (['RandomFlip', 'RandomChoice'] if '3x' in path else ['Resize', 'RandomFlip'])
    assert config.auto_scale_lr == dict(enable=False, base_batch_size=8 if large else 16)
    assert config.train_dataloader.batch_size == (1 if large else 2)
    assert config.train_dataloader.dataset.data_root == 'data/coco/'
    if 'cascade' in path:
        for head in config.model.roi_head.bbox_head:
            assert (head.type, head.num_shared_convs, head.loss_bbox.type) == ('ConvFCBBoxHead', 4, 'GIoULoss')


@pytest.mark.parametrize('path', [path for path in CONFIGS if 'ade20k' in path])
def test_ade20k_recipe(path):
    config = read_config(path)
    optimizer = config.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 2e-4, 1e-4)
    assert config.train_cfg.max_iters == 40000
    (schedule,) = config.param_scheduler
    assert (schedule.type, schedule.power, schedule.end) == ('PolyLR', 0.9, 40000)
    assert config.auto_scale_lr == dict(enable=False, base_batch_size=32)
    assert config.train_dataloader.batch_size == 4
    assert config.train_dataloader.dataset.data_root == 'data/ade/ADEChallengeData2016'
    assert config.model.decode_head.num_classes == 150
    steps = [step.type for step in config.test_dataloader.dataset.pipeline]
    assert steps == ['LoadImageFromFile', 'Resize', 'ResizeToMultiple', 'LoadAnnotations', 'PackSegInputs']
    assert config.val_dataloader == config.test_dataloader
    assert [step['type'] for (step, *_) in config.tta_pipeline[1].transforms][1] == 'ResizeToMultiple'


def test_evaluation_on_ade20k_leaves_no_pixel_out(tmp_path):
    """PVT's AlignResize: PVT floors the sides of its maps, so the image is stretched to multiples of 32 before."""
    from mmengine.dataset import Compose, pseudo_collate
    from mmseg.registry import TRANSFORMS

    # Resize makes 512 x 851 of it.
    picture = cv2.imread('docs/images/quickstart.jpg')[:301, :500]
    cv2.imwrite(str(tmp_path / 'image.png'), picture)
    cv2.imwrite(str(tmp_path / 'labels.png'), picture[..., 0] % 151)
    config = load('configs/sem_fpn/fpn_pvt-t_8xb4-40k_ade20k-512x512.py')
    config.model.backbone.num_layers = [1, 1, 1, 1]
    config.model.neck.out_channels = 16
    config.model.decode_head.update(in_channels=[16] * 4, channels=16)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = build(config).eval()
        steps = Compose([TRANSFORMS.build(step) for step in config.test_dataloader.dataset.pipeline])
        names = dict(img_path=str(tmp_path / 'image.png'), seg_map_path=str(tmp_path / 'labels.png'), seg_fields=[])
        data = pseudo_collate([steps(dict(names, reduce_zero_label=True))])
        with torch.no_grad():
            maps = model.backbone(model.data_preprocessor(data)['inputs'])
            (result,) = model.test_step(data)
    assert [(4 * 2**i * x.shape[2], 4 * 2**i * x.shape[3]) for i, x in enumerate(maps)] == [(512, 864)] * 4
    assert result.pred_sem_seg.data.shape == result.gt_sem_seg.data.shape == (1, 301, 500)


def test_quickstart_names_the_classes_of_the_generated_data():
    from mmatconv.datasets import CLASSES, PALETTE, SEG_CLASSES

    detection = read_config('configs/quickstart/mask-rcnn_attnet-xxs_fpn_shapes.py')
    assert detection.train_dataloader.dataset.metainfo.classes == CLASSES
    segmentation = read_config('configs/quickstart/fpn_attnet-xxs_shapes.py')
    assert segmentation.train_dataloader.dataset.metainfo.classes == SEG_CLASSES
    palettes = [config.train_dataloader.dataset.metainfo.palette for config in (segmentation, detection)]
    assert [tuple(colour) for colour in palettes[0]] == list(PALETTE)
    assert [tuple(colour) for colour in palettes[1]] == list(PALETTE[1:])
