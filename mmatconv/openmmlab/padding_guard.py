"""Detections that do not depend on batch mates: necks and heads kept from looking into the padding.

With ``mask_padding`` a backbone computes for each image of a batch what it computes for it alone. Behind it, 3x3
convolutions, interpolation and RoIAlign of the neck and the heads would see the padding again, and a region proposal
network would propose boxes there. Hooks of torch mend that in any detector or segmentor of mmdet and mmseg:

- convolutions larger than 1x1 see zeros in the padding, as they do beyond the border of a map;
- interpolation and RoIAlign see the last valid row and column repeated, as they do beyond the border of a map;
- in evaluation, dense heads score padding as background, and their boxes there are empty.

The hooks are functions without state: copies and pickles of a model keep them. Norms that take statistics over
positions (GroupNorm, or BatchNorm in training) are left as they are.
"""

import threading
from typing import Any

import torch
from torch import Tensor, nn

from mmatconv.layers.padding_mask import ValidArea

# What box and score of a place in the padding become: a sigmoid of 0, and a box that lies outside of every image.
NO_SCORE, NO_BOX = -1e4, 1e4

_current = threading.local()
_watching = False


def set_current_area(area: ValidArea | None) -> None:
    """The valid area of the batch that neck and heads are going to see, None for no padding."""
    _current.area = area


def guard_detectors() -> None:
    """From now on, detectors and segmentors that get a backbone with ``mask_padding`` are guarded.

    Calling it again changes nothing.
    """
    global _watching
    if not _watching:
        _watching = True
        nn.modules.module.register_module_module_registration_hook(_watch)


def _watch(parent: nn.Module, name: str, child: nn.Module | None) -> None:
    if getattr(child, 'mask_padding', False) and not isinstance(parent, nn.ModuleList | nn.Sequential):
        parent.register_forward_pre_hook(_guard_once)


def _guard_once(parent: nn.Module, args: Any) -> None:
    """Guard what stands beside the backbone; at the first call, when all of it exists."""
    if getattr(parent, '_padding_guarded', False):
        return
    parent._padding_guarded = True
    for name, child in parent.named_children():
        if name in ('backbone', 'data_preprocessor', 'roi_head'):
            continue
        for module in child.modules():
            if isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1:
                module.register_forward_pre_hook(_zero_input)
            elif type(module).__name__ == 'Upsample':
                module.register_forward_pre_hook(_extend_input)
        if name == 'neck':
            child.register_forward_hook(_extend_outputs)
        elif hasattr(child, 'conv_seg'):
            child.conv_seg.register_forward_hook(_extend_output)
        elif name in ('rpn_head', 'bbox_head'):
            child.register_forward_hook(_silence_padding)


def _area_of(x: Tensor) -> ValidArea | None:
    area = getattr(_current, 'area', None)
    if area is None or x.dim() != 4 or len(x) != len(area.sizes):
        return None
    return area.at(tuple(x.shape[2:]))


def _zero_input(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    area = _area_of(args[0])
    return None if area is None else (area.zero(args[0]), *args[1:])


def _extend_input(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    return (_extend(args[0]), *args[1:])


def _extend_output(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    return _extend(output)


def _extend_outputs(module: nn.Module, args: Any, outputs: Any) -> Any:
    return type(outputs)(_extend(x) for x in outputs) if isinstance(outputs, list | tuple) else _extend(outputs)


def _extend(x: Tensor) -> Tensor:
    area = _area_of(x)
    return x if area is None else area.extend(x)


def _silence_padding(head: nn.Module, args: Any, outputs: Any) -> Any:
    if head.training or not isinstance(outputs, tuple) or not all(isinstance(maps, list) for maps in outputs):
        return None
    scores, *others = outputs
    scores = [_fill(x, NO_SCORE) for x in scores]
    if others:
        others[0] = [_fill(x, NO_BOX) for x in others[0]]
    return (scores, *others)


def _fill(x: Tensor, value: float) -> Tensor:
    area = _area_of(x)
    return x if area is None else torch.where(area.mask(), x, value)
