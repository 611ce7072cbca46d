"""AttNet, the backbone family of Attentive Convolution (arXiv 2510.20092).

Architectures and parameter names are those of the released code (github.com/price112/Attentive-Convolution,
MIT licence, Copyright (c) 2025 price112), so that its weights load unchanged.
"""

from collections.abc import Mapping
from typing import Any

from torch import nn

from mmatconv.backbones.base import Backbone
from mmatconv.backbones.mmengine_parts import register_backbone
from mmatconv.layers import Block, ConvBN, ConvGLU, ConvStem


@register_backbone
class AttNet(Backbone):
    """AttNet: a convolutional stem, then four stages of ATConv and gated linear units at 1/4, 1/8, 1/16, 1/32.

    With the 1000-way head XXS, XS, S, T1, T2, T3 and T4 have 2.85, 5.55, 7.68, 13.7, 27.0, 49.2 and 87.3 million
    parameters.

    Args:
        arch: 'XXS', 'XS', 'S', 'T1', 'T2', 'T3', 'T4' in upper or lower case, or a dict with one value for each stage
            of ``depths`` and ``dims``, and optionally ``exp_rates`` (expansion of the channel mixer before the 2/3 of
            a gated unit; 8, 8, 4, 4), ``kernel_sizes`` (of the token mixer; 3), and ``layer_scale`` (True),
            ``glu_norm`` (RMSNorm in the channel mixer; True), ``drop_path_rate`` (0). Default: 'T2'.

    The other arguments are those of :class:`mmatconv.backbones.base.Backbone`. A 'Pretrained' entry of ``init_cfg``
    takes released and MMEngine checkpoints; the released norm of the classification form follows the mean.

    Raises:
        UserError: An unknown arch (the message lists the names) or an option out of its range.
    """

    arch_settings: Mapping[str, dict[str, Any]] = {
        'XXS': dict(
            depths=(2, 2, 4, 2), dims=(32, 64, 128, 240), layer_scale=False, glu_norm=False, drop_path_rate=0.02
        ),
        'XS': dict(depths=(2, 2, 7, 2), dims=(40, 80, 160, 320), glu_norm=False, drop_path_rate=0.02),
        'S': dict(depths=(2, 3, 10, 3), dims=(40, 80, 160, 320), layer_scale=False, glu_norm=False, drop_path_rate=0.1),
        'T1': dict(depths=(2, 3, 12, 3), dims=(48, 96, 224, 384), drop_path_rate=0.1),
        'T2': dict(depths=(3, 3, 16, 3), dims=(64, 128, 288, 512), drop_path_rate=0.2),
        'T3': dict(depths=(4, 4, 26, 4), dims=(72, 144, 320, 576), drop_path_rate=0.4),
        'T4': dict(depths=(5, 5, 28, 5), dims=(96, 192, 384, 768), drop_path_rate=0.5),
    }
    per_stage: Mapping[str, Any] = dict(depths=None, dims=None, exp_rates=(8, 8, 4, 4), kernel_sizes=3)
    flags: Mapping[str, Any] = dict(layer_scale=True, glu_norm=True, drop_path_rate=0.0)
    default_arch = 'T2'

    def make_downsample(self, i: int) -> nn.Module:
        dim = self.dims[i]
        if i > 0:
            return ConvBN(self.dims[i - 1], dim)
        return ConvStem(self.in_channels, dim)

    def make_block(self, i: int, j: int, drop_path: float) -> nn.Module:
        dim = self.dims[i]
        hidden = int(2 * int(dim * self.arch['exp_rates'][i]) / 3)
        return Block(
            dim,
            token_mixer=self.make_token_mixer(i, j),
            channel_mixer=ConvGLU(dim, hidden, norm=self.arch['glu_norm']),
            drop_path=drop_path,
            layer_scale=self.arch['layer_scale'],
        )

    def make_final_norm(self, dim: int) -> nn.Module:
        return nn.LayerNorm(dim, eps=1e-5)
