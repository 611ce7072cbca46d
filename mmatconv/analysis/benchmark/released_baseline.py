"""The baseline of every speed-up reported here: our backbones, computed as the released code computes AttNet.

Nothing of ``mmatconv.layers`` and ``mmatconv.ops`` computes here, so that work on those never changes the baseline:
``kernel_proj`` runs over the whole map and the pooling follows, the whole batch is one convolution with ``B * C``
groups, 1x1 convolutions are ``nn.Conv2d``, LayerNorm over channels goes through a permuted view, RMSNorm is the mean of
squares over dimension 1 as timm computes it, and LayerScale, stochastic depth and residual sums are operations of
their own. The computation is read from github.com/price112/Attentive-Convolution (MIT licence); of ATConv-PVT and
ATConv-Swin nothing was released; they are written in the same way. Parameter names are those of our
backbones, whose weights load as they are.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmatconv.backbones import ATConvPVT, ATConvSwin, AttNet
from mmatconv.backbones.base import Backbone
from mmatconv.errors import UserError

ATCONV = dict(type='ATConv')


class ReleasedATConv(nn.Module):
    """The token mixer, (B, C, H, W) -> (B, C, H, W): algorithm 1 of the paper in its own order.

    Args:
        dim: Channels C.
        kernel_size: K, odd. Default: 3.
    """

    def __init__(self, dim: int, kernel_size: int = 3) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        positions = kernel_size**2
        self.kernel_proj = nn.Conv2d(dim, dim, 1)
        self.pool = nn.AdaptiveAvgPool1d(positions)
        self.kernel_act = nn.GELU()
        self.kernel_gen = nn.Linear(positions, positions)
        self.x_proj = nn.Conv2d(dim, dim, 1)
        self.proj = nn.Conv2d(dim, dim, 1)
        self.difference_control = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        batch, dim, height, width = x.shape
        size = self.kernel_size
        context = self.pool(self.kernel_proj(x).flatten(2))
        kernels = self.kernel_gen(self.kernel_act(context)).reshape(batch, dim, size, size)
        share = torch.sigmoid(self.difference_control).view(1, -1, 1, 1)
        kernels = kernels - share * kernels.mean(dim=(2, 3), keepdim=True)
        value = self.x_proj(x).reshape(1, batch * dim, height, width)
        kernels = kernels.reshape(batch * dim, 1, size, size)
        output = F.conv2d(value, kernels, padding=size // 2, groups=batch * dim)
        return self.proj(output.reshape(batch, dim, height, width))


class _LayerNorm(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _RMSNorm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x * torch.rsqrt(x.pow(2).mean(dim=1, keepdim=True) + 1e-6)
        return x * self.weight.reshape(1, -1, 1, 1)


class _LayerScale(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma.reshape(1, -1, 1, 1)


class DropPath(nn.Module):
    """Stochastic depth with probability ``rate``, one product over the whole branch."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        keep = 1 - self.rate
        return x * x.new_empty(x.shape[0], 1, 1, 1).bernoulli_(keep).div_(keep)


class _GatedUnit(nn.Module):
    def __init__(self, dim: int, hidden: int, norm: bool) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(dim, 2 * hidden, 1)
        self.dwconv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.act = nn.GELU()
        self.norm_layer = _RMSNorm(hidden) if norm else nn.Identity()
        self.fc2 = nn.Conv2d(hidden, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.fc1(x).chunk(2, dim=1)
        return self.fc2(self.norm_layer(self.act(self.dwconv(gate)) * value))


class _Perceptron(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden, 1)
        self.act = nn.GELU()
        self.fc2 = nn.Conv2d(hidden, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class _Block(nn.Module):
    def __init__(
        self, dim: int, kernel_size: int, channel_mixer: nn.Module, drop_path: float, layer_scale: bool, eps: float
    ) -> None:
        super().__init__()
        scale = partial(_LayerScale, dim) if layer_scale else nn.Identity
        self.norm_1 = _LayerNorm(dim, eps=eps)
        self.token_mixer = ReleasedATConv(dim, kernel_size)
        self.layer_scale_1 = scale()
        self.norm_2 = _LayerNorm(dim, eps=eps)
        self.channel_mixer = channel_mixer
        self.layer_scale_2 = scale()
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.layer_scale_1(self.token_mixer(self.norm_1(x))))
        return x + self.drop_path(self.layer_scale_2(self.channel_mixer(self.norm_2(x))))


class _PatchEmbed(nn.Module):
    def __init__(self, in_channels: int, dim: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.proj = nn.Conv2d(in_channels, dim, size, size)
        self.norm = _LayerNorm(dim, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        bottom, right = (-side % self.size for side in x.shape[2:])
        return self.norm(self.proj(F.pad(x, (0, right, 0, bottom)) if bottom or right else x))


def _conv_bn(in_channels: int, dim: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(in_channels, dim, 3, 2, 1, bias=False), nn.BatchNorm2d(dim))


class ReleasedBackbone(nn.Module):
    """An AttNet, ATConvPVT or ATConvSwin computed as the released code does, with the weights of ``ours``.

    Args:
        ours: A backbone whose token mixer is ATConv without options, with 'flat' pooling, returning maps.

    Raises:
        UserError: Options that the released code does not have.
    """

    def __init__(self, ours: Backbone) -> None:
        super().__init__()
        if dict(ours.token_mixer) != ATCONV or ours.context_pool != 'flat' or ours.gap_before_final_norm:
            raise UserError(
                f'{type(ours).__name__} has options that the released code does not have; build it with the default '
                'token_mixer, context_pool and gap_before_final_norm.'
            )
        if getattr(ours, 'merging', 'conv') != 'conv':
            raise UserError(f'merging {ours.merging!r} is not in the released code; use merging conv.')
        self.out_indices, self.norm_eval = ours.out_indices, ours.norm_eval
        self.downsample_layers = nn.ModuleList()
        self.stages = nn.ModuleList()
        for i, stage in enumerate(ours.stages):
            self.downsample_layers.append(_downsample(ours, i))
            self.stages.append(nn.Sequential(*(_block(ours, i, block.drop_path.rate) for block in stage)))
        self.out_norms = nn.ModuleDict({i: _LayerNorm(ours.dims[int(i)], eps=1e-6) for i in ours.out_norms})
        self.load_state_dict(ours.state_dict())
        for parameter, original in zip(self.parameters(), ours.parameters()):
            parameter.requires_grad_(original.requires_grad)
        self.train(ours.training)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> the maps of the stages in ``out_indices``."""
        maps = []
        for i, (downsample, stage) in enumerate(zip(self.downsample_layers, self.stages)):
            x = stage(downsample(x))
            if i in self.out_indices:
                maps.append(self.out_norms[str(i)](x) if self.out_norms else x)
        return tuple(maps)

    def train(self, mode: bool = True) -> 'ReleasedBackbone':
        """As ``nn.Module.train``; BatchNorm stays in evaluation mode under ``norm_eval``."""
        super().train(mode)
        for module in self.modules():
            if self.norm_eval and isinstance(module, _BatchNorm):
                module.eval()
        return self


def _downsample(ours: Backbone, i: int) -> nn.Module:
    before, dim = (ours.dims[i - 1] if i else ours.in_channels), ours.dims[i]
    if isinstance(ours, AttNet):
        if i == 0:
            return nn.Sequential(_conv_bn(before, dim // 2), nn.GELU(), _conv_bn(dim // 2, dim))
        return _conv_bn(before, dim)
    if isinstance(ours, ATConvSwin) and i > 0:
        return _conv_bn(before, dim)
    return _PatchEmbed(before, dim, 4 if i == 0 else 2)


def _block(ours: Backbone, i: int, drop_path: float) -> nn.Module:
    arch, dim = ours.arch, ours.dims[i]
    if isinstance(ours, AttNet):
        mixer = _GatedUnit(dim, int(2 * int(dim * arch['exp_rates'][i]) / 3), arch['glu_norm'])
        return _Block(dim, arch['kernel_sizes'][i], mixer, drop_path, arch['layer_scale'], 1e-6)
    mixer = _Perceptron(dim, int(dim * arch['mlp_ratios'][i]))
    return _Block(dim, arch['kernel_sizes'][i], mixer, drop_path, False, 1e-6 if isinstance(ours, ATConvPVT) else 1e-5)
