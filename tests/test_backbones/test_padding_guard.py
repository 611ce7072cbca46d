"""Detections and segmentations of an image are the same alone and in any batch, with the models of mmdet and mmseg."""

import copy
import pickle
import sys

import mmcv.ops  # noqa: F401  its module of NMS is hidden behind the function of the same name
import pytest
import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.structures import SegDataSample

from ..narrow import mask_rcnn_config

# Heights and widths, multiples of 32 and not: beyond the first there is no padding if it is alone.
SIZES = ((96, 160), (150, 90), (64, 61), (160, 128))
ARCH = dict(depths=[1, 1, 1, 1], dims=[8, 12, 20, 24])
BACKBONES = {
    'AttNet': dict(type='mmatconv.AttNet', arch=ARCH, init='live', out_norm=True),
    'ATConvPVT': dict(type='mmatconv.ATConvPVT', arch=ARCH, init='live'),
}


@pytest.fixture
def in_float64(monkeypatch):
    """mmcv's NMS has no float64, and mmdet pastes masks in float32: both get what they can read."""
    module = sys.modules['mmcv.ops.nms']
    nms, grid_sample = module.ext_module.nms, F.grid_sample

    def float32_nms(boxes, scores, *args, **options):
        return nms(boxes.float(), scores.float(), *args, **options)

    monkeypatch.setattr(module.ext_module, 'nms', float32_nms)
    monkeypatch.setattr(F, 'grid_sample', lambda x, grid, **options: grid_sample(x, grid.to(x.dtype), **options))


def randomize(model):
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if not name.startswith('backbone.'):
            scale = 0.1 if parameter.dim() == 1 else (2 / parameter[0].numel()) ** 0.5
            if '.fc_' in name:  # scores that are no ties in the float32 of NMS
                scale /= 10
            parameter.data = torch.randn(parameter.shape, generator=generator) * scale
    return model.double().eval()


def mask_rcnn(backbone, mask_padding=True):
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules

    with DefaultScope.overwrite_default_scope('mmdet'):
        register_all_modules(init_default_scope=False)
        model = mask_rcnn_config(dict(BACKBONES[backbone], mask_padding=mask_padding), ARCH['dims'], 16)
        model.test_cfg.rcnn.max_per_img = 30
        torch.manual_seed(0)
        return randomize(MODELS.build(model))


def semantic_fpn(backbone, mask_padding=True):
    from mmseg.registry import MODELS
    from mmseg.utils import register_all_modules

    with DefaultScope.overwrite_default_scope('mmseg'):
        register_all_modules(init_default_scope=False)
        model = Config.fromfile('configs/sem_fpn/fpn_attnet-t2_8xb4-40k_ade20k-512x512.py').model
        model.backbone = dict(BACKBONES[backbone], mask_padding=mask_padding)
        model.neck.update(in_channels=ARCH['dims'], out_channels=16)
        model.decode_head.update(in_channels=[16] * 4, channels=16, norm_cfg=dict(type='BN'))
        model.data_preprocessor.update(size=(160, 192), test_cfg=dict(size_divisor=32))
        torch.manual_seed(0)
        return randomize(MODELS.build(model))


def batch(model, sample, chosen, training=False):
    """The chosen images as one batch of the model's own preprocessor, and their samples."""
    generator = torch.Generator().manual_seed(1)
    pictures = [torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8) for size in SIZES]
    meta = [dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0), img_id=0) for size in SIZES]
    samples = [sample(metainfo=meta[i]) for i in chosen]
    data = model.data_preprocessor(dict(inputs=[pictures[i] for i in chosen], data_samples=samples), training)
    return data['inputs'].double(), data['data_samples']


def detections(model, chosen):
    with torch.no_grad():
        return [sample.pred_instances for sample in model.predict(*batch(model, DetDataSample, chosen))]


def logits(model, chosen, training):
    with torch.no_grad():
        return model(batch(model, SegDataSample, chosen, training)[0], mode='tensor')


@pytest.mark.parametrize('backbone', BACKBONES)
def test_mask_rcnn(backbone, in_float64):
    model = mask_rcnn(backbone)
    together = detections(model, [0, 1, 2, 3])
    for i in range(len(SIZES)):
        alone = detections(model, [i])[0]
        found = together[i]
        assert len(alone) == len(found) == 30 and alone.labels.equal(found.labels)
        # float64, through deltas that a head of random weights makes large
        torch.testing.assert_close(found.bboxes, alone.bboxes, rtol=1e-10, atol=1e-8)
        torch.testing.assert_close(found.scores, alone.scores, rtol=1e-10, atol=1e-11)
        assert found.masks.equal(alone.masks)
    unmasked = mask_rcnn(backbone, mask_padding=False)
    alone, together = (detections(unmasked, chosen)[-1] for chosen in ([2], [0, 1, 2]))
    assert (alone.scores - together.scores).abs().max() > 1e-4


@pytest.mark.parametrize('backbone', BACKBONES)
def test_semantic_fpn(backbone):
    """Logits of the batches that mmseg's preprocessor makes in training; in evaluation it wants equal sizes."""
    model = semantic_fpn(backbone)
    together = logits(model, [0, 1, 2, 3], training=True)
    for i, size in enumerate(SIZES):
        alone, (height, width) = logits(model, [i], training=False), ((side + 3) // 4 for side in size)
        found = together[i : i + 1, :, :height, :width]
        torch.testing.assert_close(found, alone[:, :, :height, :width], rtol=0, atol=1e-10)
        # What interpolation to the size of the image reads beyond the last valid pixel is that pixel again.
        assert together[i, :, height:, 0].eq(together[i, :, height - 1 : height, 0]).all()


def test_losses_of_a_batch_without_the_padding_in_the_network():
    """In training too, neck and heads see each image of a batch as they see it alone."""
    model = semantic_fpn('AttNet')
    images = torch.zeros(2, 3, 128, 160, dtype=torch.float64)
    images[0] = torch.randn(3, 128, 160)
    images[1, :, :70, :90] = torch.randn(3, 70, 90)
    maps = model(images, mode='tensor')
    alone = model(F.pad(images[1:, :, :70, :90], (0, 6, 0, 26)), mode='tensor')
    torch.testing.assert_close(maps[1:, :, :18, :23], alone[:, :, :18, :23], rtol=0, atol=1e-10)
    maps[1, :, :18, :23].square().sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    alone[0, :, :18, :23].square().sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(
            gradients[name], parameter.grad, rtol=1e-9, atol=1e-9 * float(parameter.grad.abs().max())
        )


def test_copies_and_pickles_are_guarded(in_float64):
    model = mask_rcnn('AttNet')
    expected = detections(model, [2])[0].scores
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        found = detections(other, [2, 3])[0].scores
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-11)
