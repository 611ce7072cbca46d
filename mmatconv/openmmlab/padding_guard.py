"""Detections that do not depend on batch mates: necks and heads kept from looking into the padding.

With ``mask_padding`` a backbone computes for each image of a batch what it computes for it alone. Behind it, 3x3
convolutions, interpolation and RoIAlign of the neck and the heads would see the padding again, and a region proposal
network would propose boxes there. Hooks of torch mend that in any detector or segmentor of mmdet and mmseg:

- convolutions larger than 1x1 see zeros in the padding, as they do beyond the border of a map;
- interpolation and RoIAlign see the last valid row and column repeated, as they do beyond the border of a map;
- in evaluation, dense heads score padding as background, and their boxes there are empty.

The hooks are put in place while the detector is built, as soon as it holds both the backbone and the neck or head, so
that they are in force however the detector is called (``forward``, ``predict``, ``loss``, ``extract_feat``). They are
functions without state: copies and pickles of a model keep them. Norms that take statistics over positions (GroupNorm,
or BatchNorm in training) are left as they are.

The mask of the current batch is kept for each thread. A neck or head that recomputes in the backward pass (gradient
checkpointing) does so in a thread of autograd, and perhaps after the forward pass of another batch: hooks on the
gradients of its outputs set the mask of their own forward pass there, before any recomputation begins.
"""

import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mmatconv.layers.padding_mask import PaddingMask
from mmatconv.openmmlab.log import log_change
from mmatconv.ops.tracing import is_traced

# Score and box of a position in the padding: a sigmoid of 0, and a box outside of every image.
NO_SCORE, NO_BOX = -1e4, 1e4
# Children of a detector that see images or RoIs instead of maps.
NOT_GUARDED = ('backbone', 'data_preprocessor', 'roi_head')

_current = threading.local()
_watching = False


def set_current_mask(padding_mask: PaddingMask | None) -> None:
    """Set the padding mask of the batch that neck and heads are going to see in this thread, None for no padding."""
    _current.mask = padding_mask


def guard_detectors() -> None:
    """From now on, guard detectors and segmentors that get a backbone with ``mask_padding``.

    Calling it again changes nothing.
    """
    global _watching
    if not _watching:
        _watching = True
        nn.modules.module.register_module_module_registration_hook(_watch)
        log_change("torch's module registration", 'hooks keep neck and heads out of the padding')


def _watch(parent: nn.Module, name: str, child: nn.Module | None) -> None:
    """Called whenever a module becomes the child of another: the backbone may come before neck and heads or after."""
    if child is None or isinstance(parent, nn.ModuleList | nn.Sequential | nn.ModuleDict):
        return
    if getattr(child, 'mask_padding', False):
        for other_name, other in parent.named_children():
            _guard(other_name, other)
    elif any(getattr(other, 'mask_padding', False) for other in parent.children()):
        _guard(name, child)


def _guard(name: str, child: nn.Module) -> None:
    """Guard a neck or head, once."""
    if name in NOT_GUARDED or getattr(child, '_padding_guarded', False):
        return
    child._padding_guarded = True
    for module in child.modules():
        if isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1:
            module.register_forward_pre_hook(_zero_input)
        elif type(module).__name__ == 'Upsample':
            module.register_forward_pre_hook(_replicate_input)
        if hasattr(module, 'conv_seg'):
            module.conv_seg.register_forward_hook(_replicate_outputs)
            module.conv_seg.register_forward_hook(_restore_in_backward)
    if name == 'neck':
        child.register_forward_hook(_replicate_outputs)
    elif name in ('rpn_head', 'bbox_head'):
        child.register_forward_hook(_silence_padding)
    child.register_forward_hook(_restore_in_backward)


def _mask_of(x: Tensor) -> PaddingMask | None:
    padding_mask = getattr(_current, 'mask', None)
    if padding_mask is None or x.dim() != 4 or x.shape[0] != padding_mask.sizes.shape[0]:
        return None
    return padding_mask.at(x.shape[2:])


def _zero_input(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    padding_mask = _mask_of(args[0])
    return None if padding_mask is None else (padding_mask.zero_padding(args[0]), *args[1:])


def _replicate_input(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (_replicate(args[0]), *args[1:])


def _replicate_outputs(module: nn.Module, args: Any, outputs: Any) -> Any:
    return type(outputs)(map(_replicate, outputs)) if isinstance(outputs, list | tuple) else _replicate(outputs)


def _replicate(x: Tensor) -> Tensor:
    padding_mask = _mask_of(x)
    return x if padding_mask is None else padding_mask.replicate_edge(x)


def _silence_padding(head: nn.Module, args: Any, outputs: Any) -> Any:
    if head.training or not isinstance(outputs, tuple) or not all(isinstance(maps, list) for maps in outputs):
        return None
    scores, *others = outputs
    scores = [_fill(x, NO_SCORE) for x in scores]
    if others:
        others[0] = [_fill(x, NO_BOX) for x in others[0]]
    return (scores, *others)


def _fill(x: Tensor, value: float) -> Tensor:
    padding_mask = _mask_of(x)
    return x if padding_mask is None else torch.where(padding_mask.valid(), x, value)


def _restore_in_backward(module: nn.Module, args: Any, outputs: Any) -> None:
    """Have the backward pass set the mask of this forward pass in its own thread, before it reaches the module."""
    if not torch.is_grad_enabled() or is_traced():
        return
    restore = partial(_restore, getattr(_current, 'mask', None))
    for x in _tensors(outputs):
        if x.requires_grad:
            x.register_hook(restore)


def _restore(padding_mask: PaddingMask | None, grad: Tensor) -> None:
    set_current_mask(padding_mask)


def _tensors(outputs: Any) -> Iterator[Tensor]:
    if isinstance(outputs, Tensor):
        yield outputs
    elif isinstance(outputs, list | tuple):
        for output in outputs:
            yield from _tensors(output)
    elif isinstance(outputs, dict):
        yield from _tensors(list(outputs.values()))
