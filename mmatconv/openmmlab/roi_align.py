"""A guard against silently wrong detections: mmcv's RoIAlign reads every map as if it were contiguous.

A channels_last map (left by LayerNorm over channels, or by ``model.to(memory_format=torch.channels_last)``) is then
read in the wrong order: no error, no warning, and box and mask heads that never learn. Backbone, neck and user decide
the format, the RoI extractor suffers, so the one place that covers every way is the op itself.
"""

import functools
from typing import Any

from torch import Tensor

from mmatconv.openmmlab.log import log_change


def guard_roi_align() -> bool:
    """Make ``mmcv.ops.roi_align`` and ``RoIAlign`` bring their input to the contiguous format first.

    Contiguous input passes untouched. Calling it again changes nothing.

    Returns:
        Whether the guard is in place; False where mmcv or its compiled ops are not installed.
    """
    try:
        from mmcv.ops.roi_align import RoIAlignFunction
    except ImportError:
        return False
    forward = RoIAlignFunction.forward
    if getattr(forward, 'reads_contiguous', False):
        return True

    @functools.wraps(forward)
    def contiguous_forward(ctx: Any, input: Tensor, rois: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return forward(ctx, input.contiguous(), rois.contiguous(), *args, **kwargs)

    contiguous_forward.reads_contiguous = True
    RoIAlignFunction.forward = staticmethod(contiguous_forward)
    log_change('RoIAlignFunction.forward', 'feature maps are made contiguous, the only format it reads correctly')
    return True
