"""ATConv-PVT: the Pyramid Vision Transformer with its attention replaced by Attentive Convolution (tables II to VI).

No code of it was released. The form follows the paper's parameter counts: patch embeddings, pre-norms and MLPs of PVT
(arXiv 2102.12122) stay, ATConv takes the place of spatial-reduction attention, and position embeddings and class token
go. The counts cannot tell the two forms of context pooling apart; 'flat' is what all released code uses.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..layers import MLP, ATConv, Block, LayerNorm2d
from .base import Backbone, resolve_arch


class PatchEmbed(nn.Module):
    """A convolution over disjoint patches and LayerNorm: (B, C, H, W) -> (B, D, ceil(H / size), ceil(W / size)).

    Maps that the patches do not divide are padded with zeros at the right and at the bottom.
    """

    def __init__(self, in_channels: int, dim: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.proj = nn.Conv2d(in_channels, dim, size, size)
        # PyTorch's default epsilon, as PVT's patch embedding has it; the blocks' norms have 1e-6.
        self.norm = LayerNorm2d(dim, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        x = F.pad(x, (0, -width % self.size, 0, -height % self.size))
        return self.norm(self.proj(x))


@MODELS.register_module()
class ATConvPVT(Backbone):
    """ATConv-PVT: four stages of ATConv and MLPs at 1/4, 1/8, 1/16, 1/32.

    With the 1000-way head tiny, small, medium and large have 10.2, 18.3, 31.9 and 43.3 million parameters.

    Args:
        arch: 'tiny', 'small', 'medium', 'large', or a dict with one value for each stage of ``depths`` and optionally
            ``dims`` (64, 128, 320, 512), ``mlp_ratios`` (8, 8, 4, 4), ``kernel_sizes`` (3). Default: 'tiny'.
        in_channels: Channels of the image. Default: 3.
        out_indices: Stages whose output is returned. Default: all, or the last with ``gap_before_final_norm``.
        frozen_stages: -1 freezes nothing, 0 the first patch embedding, n also the first n stages. Default: -1.
        norm_eval: Keep BatchNorm in evaluation mode while training; there is none here. Default: False.
        drop_path_rate: Stochastic depth of the last block. Default: 0.
        with_cp: Recompute blocks in the backward pass to save memory. Default: False.
        out_norm: A LayerNorm on each returned map. Default: False.
        context_pool: 'flat' or 'grid', see ATConv. Default: 'flat'.
        gap_before_final_norm: The classification form: final LayerNorm, then mean over positions. Default: False.
        init: 'released', or 'live' for training without pretrained weights. Default: 'released'.
        init_cfg: MMEngine's. Default: None.

    Raises:
        UserError: An unknown arch (the message lists the names) or an option out of its range.
    """

    arch_settings: Mapping[str, dict[str, Any]] = {
        'tiny': dict(depths=(2, 2, 2, 2)),
        'small': dict(depths=(3, 4, 6, 3)),
        'medium': dict(depths=(3, 4, 18, 3)),
        'large': dict(depths=(3, 8, 27, 3)),
    }
    per_stage: Mapping[str, Any] = dict(depths=None, dims=(64, 128, 320, 512), mlp_ratios=(8, 8, 4, 4), kernel_sizes=3)

    def __init__(
        self,
        arch: str | Mapping[str, Any] = 'tiny',
        in_channels: int = 3,
        out_indices: int | Sequence[int] | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        drop_path_rate: float = 0.0,
        with_cp: bool = False,
        out_norm: bool = False,
        context_pool: str = 'flat',
        gap_before_final_norm: bool = False,
        init: str = 'released',
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        self.arch = resolve_arch('ATConvPVT', arch, self.arch_settings, self.per_stage, {})
        self.context_pool = context_pool
        super().__init__(
            depths=self.arch['depths'],
            dims=self.arch['dims'],
            in_channels=in_channels,
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            drop_path_rate=drop_path_rate,
            with_cp=with_cp,
            out_norm=out_norm,
            gap_before_final_norm=gap_before_final_norm,
            init=init,
            init_cfg=init_cfg,
        )

    def make_downsample(self, i: int) -> nn.Module:
        if i == 0:
            return PatchEmbed(self.in_channels, self.dims[0], 4)
        return PatchEmbed(self.dims[i - 1], self.dims[i], 2)

    def make_block(self, i: int, drop_path: float) -> nn.Module:
        dim = self.dims[i]
        return Block(
            dim,
            token_mixer=ATConv(dim, self.arch['kernel_sizes'][i], context_pool=self.context_pool),
            channel_mixer=MLP(dim, int(dim * self.arch['mlp_ratios'][i])),
            drop_path=drop_path,
        )

    def make_final_norm(self, dim: int) -> nn.Module:
        return LayerNorm2d(dim)

    def pool(self, x: Tensor) -> Tensor:
        return self.norm(x).mean(dim=(2, 3))
