"""The configs of ACmix, InLine and LKCA, with few channels: a training step and an evaluation, whatever the task.

Their parameters at full size are in test_metafiles.py.
"""

from pathlib import Path

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData

from .reading import read_config

ROOT = Path(__file__).parents[1]
FOLDERS = [ROOT / 'configs' / name for name in ('acmix', 'inline', 'lkca')]
CONFIGS = sorted(str(path.relative_to(ROOT)) for folder in FOLDERS for path in folder.glob('*.py'))
WIDTH = 16
# Few channels that the heads of each model divide.
DIMS = {'swin': (12, 24, 48, 96), 'pvt': (8, 16, 20, 32), 'resnet': (32, 64, 128, 256)}
MODEL_OF = {
    'acmix-swin-t': ('ACmixWindow', 'tiny'),
    'acmix-swin-s': ('ACmixWindow', 'small'),
    'acmix-pvt-t': ('ACmixReduction', 'tiny'),
    'acmix-pvt-s': ('ACmixReduction', 'small'),
    'inline-pvt-t': ('InLineAttention', [2, 2, 2, 2]),
    'inline-pvt-s': ('InLineAttention', [3, 4, 6, 3]),
    'inline-pvt-m': ('InLineAttention', [3, 4, 18, 3]),
    'inline-pvt-l': ('InLineAttention', [3, 8, 27, 3]),
    'lkca-pvt-t': ('LKCA', 'tiny'),
    'acmix-resnet-50': (None, '50'),
}


def name_of(path):
    (name,) = [name for name in MODEL_OF if f'{name}_' in path]
    return name


def narrow(config, name):
    """The model of a config with a block or two a stage and few channels."""
    dims = DIMS[name.split('-')[1]]
    model = config.model
    arch = dict(depths=[2, 1, 1, 1], dims=dims)
    if 'inline' in name:
        arch['positions'] = model.backbone.arch.positions
    model.backbone.update(arch=arch, init_cfg=None)
    if config.default_scope == 'mmpretrain':
        model.head.in_channels = dims[-1]
        model.data_preprocessor = config.data_preprocessor
        return model
    model.neck.update(in_channels=list(dims), out_channels=WIDTH)
    if config.default_scope == 'mmseg':
        model.data_preprocessor.size = (64, 64)
        model.decode_head.update(in_channels=[WIDTH] * 4, channels=WIDTH)
        return model
    model.rpn_head.update(in_channels=WIDTH, feat_channels=WIDTH)
    for part in ('bbox', 'mask'):
        model.roi_head[f'{part}_roi_extractor'].out_channels = WIDTH
        model.roi_head[f'{part}_head'].in_channels = WIDTH
    model.roi_head.bbox_head.fc_out_channels = 2 * WIDTH
    model.roi_head.mask_head.conv_out_channels = WIDTH
    model.train_cfg.rpn_proposal.update(nms_pre=100, max_per_img=20)
    model.train_cfg.rcnn.sampler.num = 8
    model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=3)
    return model


def batch_for(scope):
    """Two random images with targets; those of the detector differ in size, so that one is padded."""
    torch.manual_seed(0)
    if scope == 'mmdet':
        from mmdet.testing import demo_mm_inputs

        return demo_mm_inputs(2, [[3, 64, 96], [3, 48, 72]], num_items=[2, 3], num_classes=80, with_mask=True)
    images = [torch.randint(256, (3, 64, 64), dtype=torch.uint8) for _ in range(2)]
    if scope == 'mmseg':
        from mmseg.structures import SegDataSample

        known = dict.fromkeys(('img_shape', 'ori_shape', 'pad_shape'), (64, 64))
        labels = [PixelData(data=torch.randint(150, (1, 64, 64))) for _ in images]
        return dict(inputs=images, data_samples=[SegDataSample(gt_sem_seg=x, metainfo=known) for x in labels])
    from mmpretrain.structures import DataSample

    return dict(inputs=torch.stack(images), data_samples=[DataSample().set_gt_label(label) for label in (3, 997)])


@pytest.mark.parametrize('path', [path for path in CONFIGS if name_of(path).endswith(('-t', '-50'))])
def test_trains_one_step_and_evaluates(path):
    config = read_config(path)
    scope = config.default_scope
    __import__(f'{scope}.utils', fromlist=['']).register_all_modules(init_default_scope=False)
    with DefaultScope.overwrite_default_scope(scope):
        torch.manual_seed(0)
        model = MODELS.build(narrow(config, name_of(path))).train()
        losses = model(**model.data_preprocessor(batch_for(scope), True), mode='loss')
        total, _ = model.parse_losses(losses)
        total.backward()
        assert torch.isfinite(total) and total > 0
        without = [name for name, p in model.backbone.named_parameters() if p.grad is None]
        assert not without, 'DistributedDataParallel would wait for these gradients'
        wrapper = build_optim_wrapper(model, config.optim_wrapper)
        before = [p.detach().clone() for p in model.backbone.parameters()]
        wrapper.step()
        assert not all(map(torch.equal, before, model.backbone.parameters()))
        decay = {id(p): group['weight_decay'] for group in wrapper.param_groups for p in group['params']}
        pvt = not config.optim_wrapper.get('paramwise_cfg')
        for name, parameter in model.named_parameters():
            free = parameter.ndim == 1 or name.endswith('relative_position_bias_table')
            # The recipe of PVT's code decays everything.
            assert (decay.get(id(parameter), 1) == 0) == (free and not pvt), name

        model.eval()
        with torch.no_grad():
            results = model(**model.data_preprocessor(batch_for(scope), False), mode='predict')
    for result in results:
        found = {
            'mmdet': lambda r: r.pred_instances.bboxes,
            'mmseg': lambda r: r.seg_logits.data,
            'mmpretrain': lambda r: r.pred_score,
        }[scope](result)
        assert torch.isfinite(found).all() and len(found)


@pytest.mark.parametrize('path', CONFIGS)
def test_file_name_says_what_is_inside(path):
    config, name = read_config(path), name_of(path)
    backbone = config.model.backbone
    mixer, arch = MODEL_OF[name]
    assert backbone.arch == arch or (backbone.arch.depths, backbone.arch.positions) == (arch, [56, 28, 14, 7])
    assert backbone.get('token_mixer', {}).get('type') == mixer
    if 'in1k' in path:
        assert config.train_cfg.max_epochs == 300 and backbone.gap_before_final_norm
        return
    checkpoint = f'checkpoints/{name}_in1k.pth'
    assert backbone.init_cfg == dict(type='Pretrained', checkpoint=checkpoint, prefix='backbone.')
    assert config.pretrained_hint
    assert backbone.get('mask_padding', False) == (mixer not in (None, 'InLineAttention'))
    # As Swin has it in detection, and PVT not.
    assert backbone.get('out_norm', False) == ('swin' in name)
    recipe = config.optim_wrapper.optimizer
    expected = (2e-4, 1e-4) if 'pvt' in name or 'ade20k' in path else (1e-4, 0.05)
    if 'pvt-l_fpn' in path:
        expected = (2e-4 / 1.4, 1e-4)
    assert (recipe.type, recipe.lr, recipe.weight_decay) == ('AdamW', *expected)
