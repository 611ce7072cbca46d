"""Non-maximum suppression and RoIAlign in onnxruntime against mmcv's."""

import io

import onnxruntime
import pytest
import torch
from mmcv.ops import batched_nms
from mmcv.ops import roi_align as mmcv_roi_align
from torch import nn

pytestmark = pytest.mark.newer_torch


def in_onnx(function, arguments, shapes=None):
    """The function's result in onnxruntime and in torch."""
    from mmatconv.deploy.export.operators import translations

    class Module(nn.Module):
        def forward(self, one, other):
            return function(one, other)

    file = io.BytesIO()
    program = torch.export.export(Module(), arguments, dynamic_shapes=shapes)
    torch.onnx.export(program, f=file, custom_translation_table=translations(), external_data=False, verbose=False)
    session = onnxruntime.InferenceSession(file.getvalue())
    names = [each.name for each in session.get_inputs()]

    def run(*arguments):
        return torch.from_numpy(session.run(None, dict(zip(names, (each.numpy() for each in arguments))))[0])

    return run


def boxes_and_scores(groups, count, seed):
    generator = torch.Generator().manual_seed(seed)
    first = torch.rand(groups, count, 2, generator=generator) * 60
    boxes = torch.cat([first, first + torch.rand(groups, count, 2, generator=generator) * 40], dim=-1)
    return boxes, torch.rand(groups, count, generator=generator)


@pytest.mark.parametrize('count', [7, 500])
def test_suppression(count):
    """With more boxes than are wanted, and with fewer."""
    from mmatconv.deploy.export.operators import nms

    def function(boxes, scores):
        return nms(boxes, scores, 0.4, 0.3, count)

    run = in_onnx(function, boxes_and_scores(3, 40, 0))
    for seed in (0, 1):
        boxes, scores = boxes_and_scores(3, 40, seed)
        kept = run(boxes, scores)
        assert kept.shape == (count,) and kept.equal(function(boxes, scores))
        groups = torch.arange(3).repeat_interleave(40)
        wanted, _ = batched_nms(boxes.flatten(0, 1), scores.flatten(), groups, dict(type='nms', iou_threshold=0.4))
        wanted = wanted[wanted[:, 4] > 0.3][:count]
        kept = kept[kept >= 0]
        assert len(kept) == len(wanted) > 6
        assert scores.flatten()[kept].equal(wanted[:, 4]) and boxes.flatten(0, 1)[kept].equal(wanted[:, :4])
    assert run(boxes, torch.zeros(3, 40)).equal(torch.full((count,), -1))


@pytest.mark.parametrize(('samples', 'aligned'), [(0, True), (2, True), (0, False)])
def test_alignment(samples, aligned):
    from mmatconv.deploy.export.operators import roi_align

    def function(x, rois):
        return roi_align(x, rois, 7, 0.25, samples, aligned)

    x = torch.randn(1, 5, 25, 33, generator=torch.Generator().manual_seed(0))
    # Inside, across the border, outside, and without area.
    rois = torch.tensor(
        [[3.0, 5, 60, 71], [-20, 40, 30, 130], [90, 10, 131.7, 99.5], [200, 200, 240, 220], [8, 8, 8, 8]]
    )
    dynamic = ({2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}, {0: torch.export.Dim.DYNAMIC})
    run = in_onnx(function, (x, rois), dynamic)
    for image, boxes in ((x, rois), (x.transpose(2, 3), rois[:3])):
        wanted = mmcv_roi_align(
            image.contiguous(),
            torch.cat([boxes.new_zeros(len(boxes), 1), boxes], 1),
            (7, 7),
            0.25,
            samples,
            'avg',
            aligned,
        )
        # Sums of up to a hundred values in float32.
        torch.testing.assert_close(run(image.contiguous(), boxes), wanted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(function(image, boxes), wanted, rtol=0, atol=0)
