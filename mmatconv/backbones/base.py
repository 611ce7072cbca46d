"""What every backbone here has in common: stages, outputs, freezing, checkpointing, initialisation, loading."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from ..checkpoint import load_pretrained
from ..errors import UserError
from ..layers import LayerNorm2d, initialize
from ..ops.grouped import is_channels_last
from .roi_align_guard import guard_roi_align

MIN_INPUT_SIZE = 32


def resolve_arch(
    name: str,
    arch: str | Mapping[str, Any],
    settings: Mapping[str, dict[str, Any]],
    per_stage: Mapping[str, Any],
    flags: Mapping[str, Any],
) -> dict[str, Any]:
    """The settings of an architecture given by name or as a dict.

    Args:
        name: Class name, for messages.
        arch: A name of ``settings`` in upper or lower case, or a dict with entries of ``per_stage`` and ``flags``.
        settings: Named architectures.
        per_stage: Entries with one value for each stage and their defaults; None marks a required one. A single
            number stands for itself at every stage.
        flags: Entries with one value and their defaults.

    Returns:
        Every entry; those per stage as lists of equal length.

    Raises:
        UserError: An unknown name or entry, a missing entry, or lists of unequal length.
    """
    if isinstance(arch, str):
        names = {key.lower(): key for key in settings}
        if arch.lower() not in names:
            raise UserError(f'{name} has no arch {arch!r}; choose from {", ".join(settings)}, or give a dict.')
        arch = settings[names[arch.lower()]]
    known = [*per_stage, *flags]
    for key in arch:
        if key not in known:
            raise UserError(f'{name}: an arch dict has no entry {key!r}; it may have {", ".join(known)}.')
    for key, default in per_stage.items():
        if default is None and key not in arch:
            raise UserError(f'{name}: an arch dict needs the entry {key!r}, a list with one value for each stage.')
    resolved = {**per_stage, **flags, **arch}
    stages = len(resolved['depths'])
    for key in per_stage:
        value = resolved[key]
        resolved[key] = [value] * stages if isinstance(value, int | float) else list(value)
        if len(resolved[key]) != stages:
            raise UserError(f'{name}: the arch has {len(resolved[key])} {key} for {stages} depths; give one each.')
    return resolved


class Backbone(BaseModule):
    """Stages of blocks, each behind a downsampling layer.

    A subclass calls ``super().__init__`` with the settings, and defines ``make_downsample(i)``,
    ``make_block(i, drop_path)`` and ``make_final_norm(dim)``. Only the stages up to the last returned one, and only the
    norms of returned maps, exist, so that no parameter is ever without a gradient.

    Args:
        depths: Blocks of each stage.
        dims: Channels of each stage.
        in_channels: Channels of the image. Default: 3.
        out_indices: Stages whose output is returned, 0 the first. Default: all, or the last one with
            ``gap_before_final_norm``.
        frozen_stages: -1 freezes nothing, 0 the stem, n the stem and the first n stages: no gradients, evaluation
            mode. Default: -1.
        norm_eval: Keep BatchNorm in evaluation mode while training. Default: False.
        drop_path_rate: Stochastic depth, rising linearly from 0 in the first block to this in the last.
        with_cp: Recompute each block in the backward pass to save memory. Default: False.
        out_norm: A LayerNorm on each returned map. Default: False.
        gap_before_final_norm: The classification form: return the mean over positions, normalised, (B, C).
            Default: False.
        init: 'released' or 'live', see :func:`mmatconv.layers.initialize`. Default: 'released'.
        init_cfg: MMEngine's; ``dict(type='Pretrained', checkpoint=..., prefix=...)`` loads through
            :func:`mmatconv.checkpoint.load_pretrained`. Default: None.
    """

    def __init__(
        self,
        *,
        depths: Sequence[int],
        dims: Sequence[int],
        in_channels: int,
        out_indices: int | Sequence[int] | None,
        frozen_stages: int,
        norm_eval: bool,
        drop_path_rate: float,
        with_cp: bool,
        out_norm: bool,
        gap_before_final_norm: bool,
        init: str,
        init_cfg: dict | list[dict] | None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.dims = tuple(dims)
        self.in_channels = in_channels
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.with_cp = with_cp
        self.gap_before_final_norm = gap_before_final_norm
        self.out_indices = self._check_out_indices(out_indices, len(depths))
        if not -1 <= frozen_stages <= len(depths):
            raise UserError(f'frozen_stages must lie from -1 to {len(depths)}, but is {frozen_stages}.')
        if not 0 <= drop_path_rate < 1:
            raise UserError(f'drop_path_rate must lie from 0 to below 1, but is {drop_path_rate}.')

        blocks = sum(depths)
        rates = [drop_path_rate * j / max(blocks - 1, 1) for j in range(blocks)]
        self.downsample_layers = nn.ModuleList()
        self.stages = nn.ModuleList()
        for i in range(self.out_indices[-1] + 1):
            first = sum(depths[:i])
            self.downsample_layers.append(self.make_downsample(i))
            self.stages.append(nn.Sequential(*(self.make_block(i, rates[first + j]) for j in range(depths[i]))))
        if gap_before_final_norm:
            self.norm = self.make_final_norm(dims[-1])
        self.out_norms = nn.ModuleDict({str(i): LayerNorm2d(dims[i]) for i in self.out_indices} if out_norm else {})

        initialize(self, init)
        self._freeze()
        guard_roi_align()

    def _check_out_indices(self, out_indices: int | Sequence[int] | None, stages: int) -> tuple[int, ...]:
        if out_indices is None:
            out_indices = stages - 1 if self.gap_before_final_norm else range(stages)
        given = (out_indices,) if isinstance(out_indices, int) else tuple(out_indices)
        indices = tuple(sorted({i + stages if i < 0 else i for i in given}))
        if not indices or not all(0 <= i < stages for i in indices):
            raise UserError(f'out_indices must name stages from 0 to {stages - 1}, but are {given}.')
        if self.gap_before_final_norm and indices != (stages - 1,):
            raise UserError(f'gap_before_final_norm returns the last stage, {stages - 1}, but out_indices are {given}.')
        return indices

    def make_downsample(self, i: int) -> nn.Module:
        """The layer in front of stage ``i``."""
        raise NotImplementedError

    def make_block(self, i: int, drop_path: float) -> nn.Module:
        """A block of stage ``i``."""
        raise NotImplementedError

    def make_final_norm(self, dim: int) -> nn.Module:
        """The norm of the classification form."""
        raise NotImplementedError

    def pool(self, x: Tensor) -> Tensor:
        """The classification form's output: (B, C, H, W) -> (B, C)."""
        return self.norm(x.mean(dim=(2, 3)))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Feature maps of the stages in ``out_indices``.

        Args:
            x: (B, in_channels, H, W) with H and W at least 32, divisible by 32 or not.

        Returns:
            One (B, C, H', W') for each index in the memory format of ``x``, or one (B, C) in the classification form.

        Raises:
            UserError: An input of another shape.
        """
        self._check_input(x)
        # Channels-innermost is what LayerNorm over channels and 1x1 convolutions run fastest in; callers get back
        # the format they came with, since not every op behind a backbone reads both (roi_align_guard.py).
        memory_format = torch.channels_last if is_channels_last(x) else torch.contiguous_format
        x = x.contiguous(memory_format=torch.channels_last)
        outputs = []
        for i, (downsample, stage) in enumerate(zip(self.downsample_layers, self.stages)):
            x = downsample(x)
            for block in stage:
                x = checkpoint(block, x, use_reentrant=False) if self.with_cp and x.requires_grad else block(x)
            if i not in self.out_indices:
                continue
            if self.gap_before_final_norm:
                outputs.append(self.pool(x))
            else:
                output = self.out_norms[str(i)](x) if self.out_norms else x
                outputs.append(output.contiguous(memory_format=memory_format))
        return tuple(outputs)

    def _check_input(self, x: Tensor) -> None:
        kind = type(self).__name__
        if x.dim() != 4 or x.shape[1] != self.in_channels:
            raise UserError(
                f'{kind} expects images (B, {self.in_channels}, H, W), but was given {tuple(x.shape)}; '
                'set in_channels for images with other channels.'
            )
        if min(x.shape[2:]) < MIN_INPUT_SIZE:
            raise UserError(
                f'{kind} expects images of at least {MIN_INPUT_SIZE} pixels a side, but was given '
                f'{x.shape[2]} x {x.shape[3]}; enlarge or pad them.'
            )

    def _frozen_modules(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        frozen = self.frozen_stages
        return [self.downsample_layers[0], *self.downsample_layers[:frozen], *self.stages[:frozen]]

    def _freeze(self) -> None:
        for module in self._frozen_modules():
            module.eval()
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> 'Backbone':
        """As ``nn.Module.train``; frozen stages, and BatchNorm under ``norm_eval``, stay in evaluation mode."""
        super().train(mode)
        if mode:
            for module in self._frozen_modules():
                module.eval()
            if self.norm_eval:
                for module in self.modules():
                    if isinstance(module, _BatchNorm):
                        module.eval()
        return self

    def init_weights(self) -> None:
        """Apply ``init_cfg``, its 'Pretrained' entries last and through the reporting loader.

        MMEngine's own 'Pretrained' loads whatever matches and is silent when that is nothing.
        """
        if self.is_init:
            return
        configs = [self.init_cfg] if isinstance(self.init_cfg, Mapping) else list(self.init_cfg or [])
        pretrained = [cfg for cfg in configs if cfg['type'] == 'Pretrained']
        given, self.init_cfg = self.init_cfg, [cfg for cfg in configs if cfg not in pretrained] or None
        try:
            super().init_weights()
        finally:
            self.init_cfg = given
        for cfg in pretrained:
            load_pretrained(self, cfg['checkpoint'], cfg.get('prefix'), cfg.get('map_location', 'cpu'))
