"""Which AttNet a released checkpoint belongs to, told from the names and shapes of its tensors."""

import re
from collections.abc import Mapping
from math import ceil, isqrt
from typing import Any

import torch
from torch import Tensor

from mmatconv.backbones import AttNet
from mmatconv.errors import UserError


def infer_arch(state: Mapping[str, Tensor]) -> str | dict[str, Any]:
    """The AttNet whose released state dict has these shapes.

    Returns:
        A name ('T2'), or a dict for the ``arch`` of AttNet where no named one fits.

    Raises:
        UserError: A tensor that every AttNet has is missing.
    """
    # A set of block numbers for each stage.
    found: dict[int, set[int]] = {}
    for name in state:
        if match := re.match(r'stages\.(\d+)\.(\d+)\.', name):
            found.setdefault(int(match[1]), set()).add(int(match[2]))
    depths = [len(found.get(i, ())) for i in range(max(found, default=0) + 1)]
    blocks = [f'stages.{i}.0' for i in range(len(depths))]
    dims = [_shape(state, f'{block}.norm_1.weight')[0] for block in blocks]
    hidden = [_shape(state, f'{block}.channel_mixer.dwconv.weight')[0] for block in blocks]
    arch = dict(
        depths=depths,
        dims=dims,
        # ConvGLU has int(2 * int(dim * rate) / 3) hidden channels; half a channel more keeps rounding errors out.
        exp_rates=[(ceil(1.5 * h) + 0.5) / dim for h, dim in zip(hidden, dims)],
        kernel_sizes=[isqrt(_shape(state, f'{block}.token_mixer.kernel_gen.weight')[0]) for block in blocks],
        layer_scale=any('.layer_scale_1' in name for name in state),
        glu_norm=any('.norm_layer.' in name for name in state),
    )
    shapes = {name: tensor.shape for name, tensor in state.items() if not name.startswith('head.')}
    for name, settings in AttNet.arch_settings.items():
        if list(settings['depths']) == depths and list(settings['dims']) == dims:
            if {key: tensor.shape for key, tensor in expected_state(name).items() if key in shapes} == shapes:
                return name
    return arch


def expected_state(
    arch: str | Mapping[str, Any], in_channels: int = 3, num_classes: int | None = None
) -> dict[str, Tensor]:
    """The released state dict of an AttNet, without values.

    Args:
        arch: As for AttNet.
        in_channels: Channels of the image. Default: 3.
        num_classes: Rows of the head. Default: None, no head.

    Raises:
        UserError: An unknown arch; the message lists the names.
    """
    with torch.device('meta'):
        model = AttNet(arch, in_channels=in_channels, gap_before_final_norm=True)
        state = dict(model.state_dict())
        if num_classes is not None:
            state['head.weight'] = torch.empty(num_classes, model.dims[-1])
            state['head.bias'] = torch.empty(num_classes)
    return state


def check_released(state: Mapping[str, Tensor], arch: str | None, path: Any) -> str:
    """Compare a released classifier's state dict with the AttNet it should be.

    Args:
        state: The tensors under their released names, head included.
        arch: Name of the AttNet, or None to infer it from the shapes.
        path: The file, for the message.

    Returns:
        Which AttNet it is, and whether that was inferred.

    Raises:
        UserError: A tensor is missing, left over or of another shape; the message names the first, and both shapes.
    """
    if arch is None:
        resolved = infer_arch(state)
        text = f'AttNet-{resolved}' if isinstance(resolved, str) else _describe(resolved)
        report = f'{text} (inferred from the shapes)'
    else:
        resolved, text = arch, f'AttNet-{arch.upper()}'
        report = f'{text} (given)'
    classes = _shape(state, 'head.weight')[0] if 'head.weight' in state else 1000
    stem = state.get('downsample_layers.0.0.0.weight')
    channels = stem.shape[1] if arch is None and stem is not None and stem.dim() == 4 else 3
    expected = expected_state(resolved, channels, classes)
    first = None
    for name, tensor in expected.items():
        if name not in state:
            first = f'{name} {tuple(tensor.shape)} is not in the file'
        elif tensor.shape != state[name].shape:
            first = f'{name} is {tuple(state[name].shape)} in the file and {tuple(tensor.shape)} in {text}'
        if first:
            break
    extra = next((name for name in state if name not in expected), None)
    if not first and extra:
        first = f'{extra} {tuple(state[extra].shape)} is not in {text}'
    if first:
        advice = 'only checkpoints of AttNet classifiers can be converted'
        if arch:
            actual = infer_arch(state)
            advice = f'it is AttNet-{actual}' if isinstance(actual, str) else 'leave --arch out to have it inferred'
        raise UserError(f"checkpoint '{path}' is not {text}: {first}; {advice}.")
    return report


def _shape(state: Mapping[str, Tensor], name: str) -> torch.Size:
    if name not in state or state[name].dim() == 0:
        raise UserError(f"the checkpoint is not an AttNet's: every AttNet has a tensor {name}; name another file.")
    return state[name].shape


def _describe(arch: Mapping[str, Any]) -> str:
    return f'an AttNet of depths {tuple(arch["depths"])} and dims {tuple(arch["dims"])}'
