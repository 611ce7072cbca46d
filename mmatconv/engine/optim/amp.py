"""Mixed precision on a machine without a GPU, where MMEngine's AmpOptimWrapper refuses to be built."""

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import Tensor, nn


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Autocast to bfloat16 on the CPU.

    bfloat16 has float32's range, so there is no loss scale.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """The context of a training step's forward pass."""
        with super().optim_context(model), torch.autocast('cpu', dtype=torch.bfloat16), _mmcv_in_float32():
            yield


@contextmanager
def _mmcv_in_float32() -> Iterator[None]:
    """mmcv's NMS and RoIAlign have no bfloat16 on the CPU: they are given float32."""
    with ExitStack() as stack:
        try:
            from mmcv.ops.nms import NMSop
            from mmcv.ops.roi_align import RoIAlign
        except ImportError:
            pass  # segmentation and classification need neither
        else:
            stack.enter_context(mock.patch.object(NMSop, 'forward', staticmethod(_in_float32(NMSop.forward))))
            stack.enter_context(mock.patch.object(RoIAlign, 'forward', _in_float32(RoIAlign.forward)))
        yield


def _in_float32(forward: Callable) -> Callable:
    """`forward`, whose first argument is its module or context, with its floating point result cast back."""

    @functools.wraps(forward)
    def wrapped(owner: Any, first: Tensor, *others: Any) -> Any:
        others = [
            value.float() if isinstance(value, Tensor) and value.is_floating_point() else value for value in others
        ]
        result = forward(owner, first.float(), *others)
        return result.to(first.dtype) if result.is_floating_point() else result

    return wrapped
