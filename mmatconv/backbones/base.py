"""What every backbone here has in common: stages, outputs, freezing, checkpointing, initialisation, loading."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from mmatconv.backbones.arch import resolve_arch
from mmatconv.backbones.mmengine_parts import BaseModule
from mmatconv.backbones.token_mixers import build_token_mixer
from mmatconv.checkpoint.loading import load_pretrained
from mmatconv.errors import UserError
from mmatconv.layers import LayerNorm2d, initialize
from mmatconv.layers.block import run_blocks
from mmatconv.layers.padding_mask import PaddingMask, find_padding
from mmatconv.openmmlab.padding_guard import guard_detectors, set_current_mask
from mmatconv.openmmlab.roi_align import guard_roi_align
from mmatconv.ops.memory_format import is_channels_last

MIN_INPUT_SIZE = 32


def mean_of_positions(x: Tensor, padding_mask: PaddingMask | None) -> Tensor:
    """The mean over the valid positions: (B, C, H, W) -> (B, C)."""
    if padding_mask is None:
        return x.mean(dim=(2, 3))
    return padding_mask.zero_padding(x).sum(dim=(2, 3)) / padding_mask.sizes.prod(1)[:, None]


class Backbone(BaseModule):
    """Stages of blocks, each behind a downsampling layer.

    A subclass gives ``arch_settings``, ``per_stage`` and ``flags`` (see :func:`resolve_arch`) and defines
    ``make_downsample(i)``, ``make_block(i, j, drop_path)`` and ``make_final_norm(dim)``. Only the stages up to the last
    returned one, and only the norms of returned maps, exist, so that no parameter is ever without a gradient.

    Args:
        arch: A name of ``arch_settings`` in upper or lower case, or a dict. Default: the subclass's
            ``default_arch``.
        token_mixer: ``dict(type=NAME, **options)``, a value that is a list has one entry for each stage; or a list of
            such dicts, one for each stage. Names are in ``mmatconv.backbones.TOKEN_MIXERS``. Default: ATConv.
        context_pool: 'flat' (released code and weights) or 'grid' (equation 7), see ATConv. Default: 'flat'.
        in_channels: Channels of the image. Default: 3.
        out_indices: Stages whose output is returned, 0 the first. Default: all, or the last one with
            ``gap_before_final_norm``.
        frozen_stages: -1 freezes nothing, 0 the stem, n the stem and the first n stages: no gradients, evaluation
            mode. Default: -1.
        norm_eval: Keep BatchNorm in evaluation mode while training. Default: False.
        drop_path_rate: Stochastic depth, rising linearly from 0 in the first block to this in the last. Default: the
            rate of the arch.
        with_cp: Recompute each block in the backward pass to save memory. Default: False.
        out_norm: A LayerNorm on each returned map. Default: False.
        mask_padding: Compute for each image of a padded batch what is computed for it alone: features do not depend
            on batch mates, and neither do detections (padding_guard.py). Padding is what is zero at the right and at
            the bottom. BatchNorm in training mode still averages over the batch. Default: False.
        gap_before_final_norm: The classification form: return the mean over positions, normalised, (B, C).
            Default: False.
        init: 'released', the released code's, or for training from scratch 'live', see
            :func:`mmatconv.layers.initialize`. Default: 'released'.
        init_cfg: MMEngine's; ``dict(type='Pretrained', checkpoint=..., prefix=...)`` loads through
            :func:`mmatconv.checkpoint.load_pretrained`. Default: None.

    Raises:
        UserError: An unknown arch or token mixer (the message lists the names) or an option out of its range.
    """

    arch_settings: Mapping[str, dict[str, Any]]
    per_stage: Mapping[str, Any]
    flags: Mapping[str, Any]
    default_arch: str

    def __init__(
        self,
        arch: str | Mapping[str, Any] | None = None,
        token_mixer: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        context_pool: str = 'flat',
        in_channels: int = 3,
        out_indices: int | Sequence[int] | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        drop_path_rate: float | None = None,
        with_cp: bool = False,
        out_norm: bool = False,
        gap_before_final_norm: bool = False,
        mask_padding: bool = False,
        init: str = 'released',
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        name = type(self).__name__
        self.arch = resolve_arch(name, arch or self.default_arch, self.arch_settings, self.per_stage, self.flags)
        self.depths, self.dims = tuple(self.arch['depths']), tuple(self.arch['dims'])
        self.token_mixer = dict(type='ATConv') if token_mixer is None else token_mixer
        self.context_pool = context_pool
        self.in_channels = in_channels
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.with_cp = with_cp
        self.gap_before_final_norm = gap_before_final_norm
        self.mask_padding = mask_padding
        self.out_indices = self._check_out_indices(out_indices, len(self.depths))
        if not -1 <= frozen_stages <= len(self.depths):
            raise UserError(f'frozen_stages must lie from -1 to {len(self.depths)}, but is {frozen_stages}.')
        if drop_path_rate is None:
            drop_path_rate = self.arch['drop_path_rate']
        if not 0 <= drop_path_rate < 1:
            raise UserError(f'drop_path_rate must lie from 0 to below 1, but is {drop_path_rate}.')

        blocks = sum(self.depths)
        rates = [drop_path_rate * j / max(blocks - 1, 1) for j in range(blocks)]
        self.downsample_layers = nn.ModuleList()
        self.stages = nn.ModuleList()
        for i in range(self.out_indices[-1] + 1):
            first = sum(self.depths[:i])
            self.downsample_layers.append(self.make_downsample(i))
            self.stages.append(nn.Sequential(*(self.make_block(i, j, rates[first + j]) for j in range(self.depths[i]))))
        if gap_before_final_norm:
            self.norm = self.make_final_norm(self.dims[-1])
        self.out_norms = nn.ModuleDict(
            {str(i): LayerNorm2d(self.dims[i]) for i in self.out_indices} if out_norm else {}
        )

        if mask_padding:
            self._check_mixers()
            guard_detectors()
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

    def make_block(self, i: int, j: int, drop_path: float) -> nn.Module:
        """Block ``j`` of stage ``i``."""
        raise NotImplementedError

    def make_token_mixer(self, i: int, j: int) -> nn.Module:
        """The token mixer of block ``j`` of stage ``i``, (B, C, H, W) -> (B, C, H, W)."""
        defaults = dict(kernel_size=self.arch['kernel_sizes'][i], context_pool=self.context_pool)
        return build_token_mixer(self.token_mixer, self.dims[i], i, len(self.depths), j, defaults)

    def make_final_norm(self, dim: int) -> nn.Module:
        """The norm of the classification form."""
        raise NotImplementedError

    def pool(self, x: Tensor, padding_mask: PaddingMask | None = None) -> Tensor:
        """The classification form's output: (B, C, H, W) -> (B, C)."""
        return self.norm(mean_of_positions(x, padding_mask))

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
        padding_mask = self._find_padding(x)
        outputs = []
        for i, (downsample, stage) in enumerate(zip(self.downsample_layers, self.stages)):
            if padding_mask is None:
                x = downsample(x)
            else:
                x = downsample(x, padding_mask) if i == 0 else downsample(x)
                padding_mask = padding_mask.downsample(4 if i == 0 else 2)
            if self.with_cp and torch.is_grad_enabled():
                for block in stage:
                    x = checkpoint(block, x, padding_mask, use_reentrant=False)
            else:
                # Of each map no name is left behind that would keep its memory.
                for x in run_blocks(stage, x, padding_mask):  # noqa: B007, B020
                    pass
            if padding_mask is not None:
                x = padding_mask.zero_padding(x)  # for the next stage, and as output
            if i not in self.out_indices:
                continue
            if self.gap_before_final_norm:
                outputs.append(self.pool(x, padding_mask))
                continue
            output = x
            if self.out_norms:
                output = self.out_norms[str(i)](x)
                output = output if padding_mask is None else padding_mask.zero_padding(output)
            outputs.append(output.contiguous(memory_format=memory_format))
        return tuple(outputs)

    def _find_padding(self, images: Tensor) -> PaddingMask | None:
        if not self.mask_padding:
            return None
        padding_mask = find_padding(images)
        set_current_mask(padding_mask)
        return padding_mask

    def _check_mixers(self) -> None:
        for mixer in (block.token_mixer for stage in self.stages for block in stage):
            if 'padding_mask' not in inspect.signature(mixer.forward).parameters:
                raise UserError(
                    f'mask_padding needs token mixers that leave padding out, and {type(mixer).__name__} does not; use '
                    "ATConv, Conv, DepthwiseConv, ACmix or LKCA, or give its forward a second argument 'padding_mask'."
                )

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

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """The layer a parameter belongs to, for layer-wise decay of the learning rate.

        Layer 0 is the stem, every block is a layer, with the downsampling layer in front of it, and what follows the
        last block is the last layer.

        Args:
            param_name: Name of the parameter.
            prefix: What stands before the backbone's own names. Default: ''.

        Returns:
            Index of the layer and number of layers.
        """
        layers = sum(self.depths) + 2
        room, *rest = param_name.removeprefix(prefix).split('.') if param_name.startswith(prefix) else ('',)
        if room == 'downsample_layers':
            stage = int(rest[0])
            return (sum(self.depths[:stage]) + 1 if stage else 0), layers
        if room == 'stages':
            return sum(self.depths[: int(rest[0])]) + int(rest[1]) + 1, layers
        return layers - 1, layers

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
