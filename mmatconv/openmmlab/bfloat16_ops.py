"""mmcv's NMS and RoIAlign on bfloat16 CPU tensors, which their C++ code does not take."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mmatconv.openmmlab.log import log_change


def support_bfloat16_on_cpu() -> bool:
    """Make ``NMSop`` and ``RoIAlign`` compute bfloat16 CPU tensors in float32; others pass untouched.

    Calling it again changes nothing.

    Returns:
        Whether they do so now; False where mmcv or its compiled ops are not installed.
    """
    try:
        from mmcv.ops.nms import NMSop
        from mmcv.ops.roi_align import RoIAlign
    except ImportError:
        return False
    if not getattr(NMSop.forward, 'takes_bfloat16', False):
        NMSop.forward = staticmethod(_in_float32(NMSop.forward))
        RoIAlign.forward = _in_float32(RoIAlign.forward)
        log_change('NMSop.forward, RoIAlign.forward', 'bfloat16 on the CPU is computed in float32')
    return True


def _in_float32(forward: Callable) -> Callable:
    """`forward`, whose first argument is its module or context, with a floating point result cast back."""

    @functools.wraps(forward)
    def wrapped(owner: Any, first: Tensor, *others: Any) -> Any:
        if not any(_is_cpu_bfloat16(value) for value in (first, *others)):
            return forward(owner, first, *others)
        result = forward(owner, *(value.float() if _is_floating(value) else value for value in (first, *others)))
        return result.to(first.dtype) if result.is_floating_point() else result

    wrapped.takes_bfloat16 = True
    return wrapped


def _is_floating(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _is_cpu_bfloat16(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.bfloat16 and value.device.type == 'cpu'
