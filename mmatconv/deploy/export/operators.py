"""Non-maximum suppression and RoIAlign as operators that torch.export sees and that become standard ONNX operators.

mmcv's own are compiled functions without a shape rule, and the number of boxes they keep depends on the data. Here it
is fixed: what is missing is index -1.
"""

from collections.abc import Callable

import torch
from torch import Tensor


@torch.library.custom_op('mmatconv::nms', mutates_args=())
def nms(boxes: Tensor, scores: Tensor, overlap: float, threshold: float, count: int) -> Tensor:
    """Suppression within each of G groups (classes, levels), then the ``count`` best of all.

    Args:
        boxes: (G, N, 4), corners.
        scores: (G, N).
        overlap: A box goes if its intersection over union with a better one of its group is above this.
        threshold: Boxes of at most this score are left out.
        count: Boxes kept.

    Returns:
        (count,), places among the G * N boxes by falling score, then -1.
    """
    from mmcv.ops import batched_nms

    groups = torch.arange(len(boxes), device=boxes.device)[:, None].expand_as(scores)
    places = (scores > threshold).flatten().nonzero()[:, 0]
    flat = boxes.flatten(0, 1)[places], scores.flatten()[places], groups.flatten()[places]
    kept = batched_nms(*flat, dict(type='nms', iou_threshold=overlap))[1] if len(places) else places
    kept = places[kept][:count]
    return torch.nn.functional.pad(kept, (0, count - len(kept)), value=-1)


@nms.register_fake
def _(boxes: Tensor, scores: Tensor, overlap: float, threshold: float, count: int) -> Tensor:
    return boxes.new_empty(count, dtype=torch.int64)


@torch.library.custom_op('mmatconv::roi_align', mutates_args=())
def roi_align(x: Tensor, rois: Tensor, size: int, scale: float, samples: int, aligned: bool) -> Tensor:
    """mmcv's RoIAlign by averages.

    Args:
        x: (1, C, H, W).
        rois: (N, 4), corners in pixels of the image.
        size: Side of the output.
        scale: Pixels of the map for one of the image.
        samples: Points in each direction of an output pixel, 0 for as many as it covers pixels.
        aligned: Whether pixels are areas rather than points.

    Returns:
        (N, C, size, size).
    """
    from mmcv.ops import roi_align as align

    rois = torch.cat([rois.new_zeros(len(rois), 1), rois], dim=1)
    return align(x.contiguous(), rois, (size, size), scale, samples, 'avg', aligned)


@roi_align.register_fake
def _(x: Tensor, rois: Tensor, size: int, scale: float, samples: int, aligned: bool) -> Tensor:
    return x.new_empty(rois.shape[0], x.shape[1], size, size)


def translations() -> dict[Callable, Callable]:
    """What they are in ONNX, for ``torch.onnx.export(custom_translation_table=...)``."""
    from onnxscript import opset18 as op

    def onnx_nms(boxes, scores, overlap: float, threshold: float, count: int):
        # Groups are ONNX's images of a batch: no offsets, hence no rounding of large coordinates.
        sides = op.Shape(scores)
        per_group = op.Gather(sides, op.Constant(value_ints=[1]))
        chosen = op.NonMaxSuppression(
            boxes,
            op.Unsqueeze(scores, op.Constant(value_ints=[1])),
            per_group,
            op.Constant(value_floats=[overlap]),
            op.Constant(value_floats=[threshold]),
        )
        group = op.Gather(chosen, op.Constant(value_int=0), axis=1)
        box = op.Gather(chosen, op.Constant(value_int=2), axis=1)
        places = op.Add(op.Mul(group, per_group), box)
        values = op.Gather(op.Reshape(scores, op.Constant(value_ints=[-1])), places)
        places = op.Concat(places, op.Constant(value_ints=[-1] * count), axis=0)
        values = op.Concat(values, op.Constant(value_floats=[float('-inf')] * count), axis=0)
        _, order = op.TopK(values, op.Constant(value_ints=[count]))
        return op.Gather(places, order)

    def onnx_roi_align(x, rois, size: int, scale: float, samples: int, aligned: bool):
        images = op.Expand(op.Constant(value_ints=[0]), op.Shape(rois, start=0, end=1))
        return op.RoiAlign(
            x,
            rois,
            images,
            coordinate_transformation_mode='half_pixel' if aligned else 'output_half_pixel',
            mode='avg',
            output_height=size,
            output_width=size,
            sampling_ratio=samples,
            spatial_scale=scale,
        )

    return {torch.ops.mmatconv.nms.default: onnx_nms, torch.ops.mmatconv.roi_align.default: onnx_roi_align}
