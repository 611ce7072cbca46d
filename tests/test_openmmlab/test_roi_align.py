"""Detections do not depend on the memory format that backbone, neck or user leave behind."""

import contextlib
import copy

import pytest
import torch
from mmcv.ops.roi_align import RoIAlignFunction, roi_align
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmdet.utils import register_all_modules
from mmengine.registry import DefaultScope

from mmatconv.openmmlab.roi_align import guard_roi_align

from ..narrow import mask_rcnn_config

BACKBONES = {
    'AttNet': dict(type='mmatconv.AttNet', arch='XXS', init='live', out_norm=True),
    'ATConvPVT': dict(type='mmatconv.ATConvPVT', arch=dict(depths=[1, 1, 1, 1], dims=[32, 64, 128, 240]), init='live'),
}


@pytest.fixture
def detector_of():
    """Builds a narrow Mask R-CNN."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        register_all_modules(init_default_scope=False)

        def build(backbone):
            torch.manual_seed(0)
            model = mask_rcnn_config(BACKBONES[backbone], [32, 64, 128, 240], 32)
            return MODELS.build(model).eval()

        yield build


def losses_and_detections(model, memory_format):
    """Every loss, and the scores, boxes and masks of the first image."""
    model = model.to(memory_format=memory_format)
    data = demo_mm_inputs(2, [[3, 96, 128], [3, 128, 96]], num_items=[3, 2], num_classes=80, with_mask=True)
    data = model.data_preprocessor(data, False)
    images = data['inputs'].contiguous(memory_format=memory_format)
    torch.manual_seed(1)
    losses = model.loss(images, copy.deepcopy(data['data_samples']))
    # 'acc' counts near ties and is no loss.
    flat = {k: sum(v) if isinstance(v, list) else v for k, v in losses.items() if 'loss' in k}
    with torch.no_grad():
        found = model.predict(images, copy.deepcopy(data['data_samples']), rescale=False)[0].pred_instances
    return {k: v.item() for k, v in flat.items()}, found


@contextlib.contextmanager
def guard_taken_out():
    guarded = RoIAlignFunction.forward
    RoIAlignFunction.forward = staticmethod(guarded.__wrapped__)
    try:
        yield
    finally:
        RoIAlignFunction.forward = staticmethod(guarded)


# Formats change the order of float32 sums: 1e-6 of a loss here, 1e-4 where two proposals of nearly equal score change
# places. Misread maps change losses by 1e-2 and more.
TOLERANCE = 5e-4


@pytest.mark.parametrize('backbone', BACKBONES)
def test_losses_and_detections_are_equal_in_both_formats(detector_of, backbone):
    model = detector_of(backbone)
    losses, found = losses_and_detections(model, torch.contiguous_format)
    losses_last, found_last = losses_and_detections(model, torch.channels_last)
    assert losses.keys() == losses_last.keys() and {'loss_cls', 'loss_bbox', 'loss_mask'} <= losses.keys()
    for name, value in losses.items():
        assert losses_last[name] == pytest.approx(value, rel=TOLERANCE), name
    assert len(found) == len(found_last) > 0
    torch.testing.assert_close(found.scores, found_last.scores, rtol=0, atol=1e-3)
    # Detections of nearly equal score may change places, so each is compared with the nearest of its class.
    keys, keys_last = (torch.cat([f.bboxes, 1e4 * f.labels[:, None]], dim=1) for f in (found, found_last))
    distance, partner = torch.cdist(keys, keys_last, p=float('inf')).min(dim=1)
    assert distance.max() < 0.05  # pixels
    assert partner.unique().numel() >= 0.99 * len(found)
    assert (found.masks != found_last.masks[partner]).float().mean() < 1e-3
    with guard_taken_out():
        unguarded, _ = losses_and_detections(model, torch.channels_last)
    assert unguarded['loss_mask'] != pytest.approx(losses['loss_mask'], rel=10 * TOLERANCE)


def test_without_the_guard_the_op_misreads_channels_last():
    """The fault the guard is for; the day this fails, mmcv is mended and the guard can go."""
    assert guard_roi_align() and guard_roi_align()
    x = torch.randn(1, 4, 8, 8, dtype=torch.float64)
    rois = torch.tensor([[0, 1.0, 1.0, 6.0, 5.0]], dtype=torch.float64)
    expected = roi_align(x, rois, 2)
    channels_last = x.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(roi_align(channels_last, rois, 2), expected, rtol=0, atol=1e-14)
    with guard_taken_out():
        assert (roi_align(channels_last, rois, 2) - expected).abs().max() > 0.1


def test_gradients_pass_the_guard():
    guard_roi_align()
    x = torch.randn(1, 2, 8, 8, dtype=torch.float64)
    rois = torch.tensor([[0, 1.0, 1.0, 6.0, 5.0]], dtype=torch.float64)
    grads = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        leaf = x.clone(memory_format=memory_format).requires_grad_()
        roi_align(leaf, rois, 2).square().sum().backward()
        grads.append(leaf.grad)
    torch.testing.assert_close(grads[0], grads[1], rtol=0, atol=1e-13)
