"""Detectors, segmentors and classifiers as functions of an image, and what cannot be exported."""

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope

from mmatconv import UserError

from ..narrow import mask_rcnn_config

pytestmark = pytest.mark.newer_torch

CONFIGS = Path(__file__).parents[1] / 'test_tools' / 'configs'
BACKBONE = dict(
    type='mmatconv.AttNet',
    arch=dict(depths=[1] * 4, dims=[8, 12, 16, 20], exp_rates=2),
    out_norm=True,
    init='live',
)


def detector_config(cascade=False, **backbone):
    model = mask_rcnn_config({**BACKBONE, **backbone}, [8, 12, 16, 20], 16)
    if cascade:
        whole = Config.fromfile('configs/cascade_rcnn/cascade-mask-rcnn_attnet-t2_fpn_1x_coco.py').model
        head = whole.roi_head
        for part in ('bbox', 'mask'):
            head[f'{part}_roi_extractor'].out_channels = 16
        for stage in head.bbox_head:
            stage.update(in_channels=16, conv_out_channels=16, fc_out_channels=32, norm_cfg=dict(type='BN'))
            stage.num_shared_convs = 1  # of 4: the export takes as long as there are operations
        head.mask_head.update(in_channels=16, conv_out_channels=16, num_convs=1)
        model.update(type=whole.type, roi_head=head, train_cfg=whole.train_cfg)
    model.test_cfg.rpn.update(nms_pre=100, max_per_img=60)
    model.test_cfg.rcnn.update(max_per_img=20, score_thr=0.0)
    return model


def build(config, scope='mmdet'):
    from mmatconv.analysis.build_model import build_model

    torch.manual_seed(0)
    model = build_model(Config(dict(model=config, default_scope=scope)), 'cpu').eval()
    for name, parameter in model.named_parameters():
        if any(layer in name for layer in ('fc_cls', 'fc_reg', 'rpn_cls', 'rpn_reg', 'conv_seg')):
            torch.nn.init.normal_(parameter, 0, 0.1 if 'reg' in name else 0.3)
    return model


def photograph(height, width):
    """Smooth pixels (C, H, W), uint8."""
    small = torch.randint(0, 256, (1, 3, height // 8, width // 8), generator=torch.Generator().manual_seed(height))
    return F.interpolate(small.float(), size=(height, width), mode='bicubic')[0].clamp(0, 255).byte()


def sample(height, width):
    """What a test pipeline packs for an image that was twice as large."""
    from mmdet.structures import DetDataSample

    shapes = dict(img_shape=(height, width), ori_shape=(2 * height, 2 * width), scale_factor=(0.5, 0.5))
    return DetDataSample(metainfo=shapes)


def exportable(model, scope='mmdet'):
    from mmatconv.deploy.export.exportable import exportable

    return exportable(model, scope)


def hooks_of(model):
    return sum(len(each._forward_hooks) + len(each._forward_pre_hooks) for each in model.modules())


@pytest.mark.parametrize('cascade', [False, True])
@pytest.mark.parametrize('mask_padding', [False, True])
def test_detectors_find_what_mmdet_finds(cascade, mask_padding):
    model = build(detector_config(cascade, mask_padding=mask_padding))
    hooks = hooks_of(model)
    form = exportable(model)
    assert hooks_of(model) == hooks and bool(hooks) == mask_padding
    for size in ((101, 130), (64, 96)):
        image = photograph(*size)
        with torch.no_grad():
            found = model.test_step(dict(inputs=[image], data_samples=[sample(*size)]))[0].pred_instances
            boxes, scores, labels, masks = form(image[None])
        assert len(found) == 20 and masks.shape == (20, 28, 28)
        # The same operations in another order.
        torch.testing.assert_close(2 * boxes, found.bboxes, rtol=0, atol=1e-3)
        torch.testing.assert_close(scores, found.scores, rtol=0, atol=1e-6)
        assert labels.equal(found.labels)


@pytest.mark.slow
def test_a_cascade_of_any_size_in_onnx(tmp_path):
    from mmatconv.deploy.export.agreement import compare
    from mmatconv.deploy.export.exported_model import ExportedModel
    from mmatconv.deploy.export.write import write

    model = build(detector_config(cascade=True, mask_padding=True))
    write(exportable(model), photograph(101, 130)[None], tmp_path / 'a.onnx', 'onnx', dynamic=True)
    exported = ExportedModel(str(tmp_path / 'a.onnx'), model, 'mmdet')
    for size in ((101, 130), (160, 75)):
        batches = [dict(inputs=[photograph(*size)], data_samples=[sample(*size)]) for _ in range(2)]
        with torch.no_grad():
            expected = model.test_step(batches[0])[0]
        actual = exported.test_step(batches[1])[0]
        agreement = compare(expected, actual, 0.0, 20)
        assert agreement.good, agreement.summary
        assert len(actual.pred_instances) == 20
        assert (actual.pred_instances.masks == expected.pred_instances.masks).float().mean() > 0.999


def change(path, value):
    """A change of a config by a dotted path."""

    def apply(config):
        *parents, last = path.split('.')
        for name in parents:
            config = config[int(name)] if name.isdigit() else config[name]
        config[last] = value

    return apply


@pytest.mark.parametrize(
    ('apply', 'sentence'),
    [
        (change('test_cfg.rcnn.nms.type', 'soft_nms'), "model.test_cfg.rcnn.nms .*'soft_nms'.* cannot be exported"),
        (change('test_cfg.rpn.max_per_img', -1), 'model.test_cfg.rpn.max_per_img is -1'),
        (change('rpn_head.bbox_coder.type', 'TBLRBBoxCoder'), 'rpn_head.bbox_coder is TBLRBBoxCoder, which cannot'),
        (change('roi_head.type', 'DoubleHeadRoIHead'), 'roi_head is DoubleHeadRoIHead'),
        (change('roi_head.mask_head.type', 'CoarseMaskHead'), 'roi_head.mask_head is CoarseMaskHead'),
        (change('roi_head.bbox_roi_extractor.roi_layer', dict(type='RoIPool', output_size=7)), 'roi_layer is RoIPool'),
        (change('type', 'MaskScoringRCNN'), 'model is MaskScoringRCNN'),
    ],
)
def test_a_part_that_is_not_covered_is_named(apply, sentence):
    config = detector_config()
    apply(config)
    if config.roi_head.type == 'DoubleHeadRoIHead':
        config.roi_head.update(reg_roi_scale_factor=1.3)
    with pytest.raises(UserError, match=sentence):
        exportable(build(config))


def test_segmentors_that_are_not_covered():
    config = Config.fromfile(CONFIGS / 'seg.py').model
    config.test_cfg = ConfigDict(mode='slide', crop_size=(64, 64), stride=(32, 32))
    with pytest.raises(UserError, match=r"test_cfg\.mode='slide' cannot be exported"):
        exportable(build(config, 'mmseg'), 'mmseg')


@pytest.mark.parametrize('in_testing', [None, dict(size_divisor=32), dict(size=(96, 80))])
def test_segmentors_predict_what_mmseg_predicts(in_testing):
    from mmseg.structures import SegDataSample

    config = Config.fromfile(CONFIGS / 'seg.py').model
    config.data_preprocessor.test_cfg = in_testing
    config.backbone.mask_padding = True
    model = build(config, 'mmseg')
    image = photograph(70, 75)
    shapes = dict(ori_shape=(70, 75), img_shape=(70, 75), pad_shape=(70, 75))
    with torch.no_grad():
        found = model.test_step(dict(inputs=[image], data_samples=[SegDataSample(metainfo=shapes)]))[0]
        logits = exportable(model, 'mmseg')(image[None])[0][0]
    # The same operations.
    torch.testing.assert_close(logits, found.seg_logits.data, rtol=0, atol=1e-5)


def test_classifiers(tmp_path):
    from mmatconv.deploy.export.runtime import Exported
    from mmatconv.deploy.export.write import write

    config = Config.fromfile(CONFIGS / 'cls.py').model
    config.backbone.arch = dict(depths=[1], dims=[8], exp_rates=2)
    config.head.in_channels = 8
    model = build(config, 'mmpretrain')
    images = torch.stack([photograph(64, 72), photograph(64, 72).flip(2)])
    write(exportable(model, 'mmpretrain'), images[:1], tmp_path / 'a.pt2', 'pt2', dynamic=True)
    write(exportable(model, 'mmpretrain'), images[:1], tmp_path / 'b.pt2', 'pt2', dynamic=False)
    with torch.no_grad(), DefaultScope.overwrite_default_scope('mmpretrain'):
        scores = torch.stack([each.pred_score for each in model.test_step(dict(inputs=images))])
    logits = torch.from_numpy(Exported(tmp_path / 'a.pt2')(images.numpy())['logits'])
    torch.testing.assert_close(logits.softmax(1), scores, rtol=0, atol=1e-6)
    with pytest.raises(UserError, match=r'takes images of 1 x 3 x 64 x 72, but was given 2 x 3 x 64 x 72'):
        Exported(tmp_path / 'b.pt2')(images.numpy())
    model.head = MODELS.build(dict(type='mmpretrain.MultiLabelLinearClsHead', in_channels=8, num_classes=2))
    with pytest.raises(UserError, match='head is MultiLabelLinearClsHead, which cannot be exported'):
        exportable(model, 'mmpretrain')


def test_missing_packages_are_named(monkeypatch):
    from mmatconv.deploy.export.checks import check_packages

    monkeypatch.setitem(sys.modules, 'onnxscript', None)
    with pytest.raises(UserError, match=r"needs the package onnxscript: pip install 'mmatconv\[onnx\]'"):
        check_packages()
    check_packages(onnx=False)
