"""ACmix-ResNet (arXiv 2111.14556): ResNet with ACmix in the place of the 3x3 convolution of every bottleneck.

As in the authors' code (github.com/LeapLabTHU/ACmix): stem, strides and shortcuts of torchvision's ResNet, the
sliding-window form of ACmix, He initialisation.
"""

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from mmatconv.backbones.base import Backbone
from mmatconv.backbones.mmengine_parts import register_backbone
from mmatconv.errors import UserError
from mmatconv.layers import DropPath
from mmatconv.layers.token_mixers.acmix_sliding import ACmixSliding

EXPANSION = 4


class ACmixBottleneck(nn.Module):
    """1x1 convolution, ACmix, 1x1 convolution, each normalised, beside a shortcut.

    Args:
        in_channels: Channels C.
        dim: Channels D of the output; a quarter of them inside.
        stride: Of ACmix. Default: 1.
        drop_path: Probability of dropping the branch. Default: 0.
        mixer: Options of :class:`ACmixSliding`.
    """

    def __init__(self, in_channels: int, dim: int, stride: int = 1, drop_path: float = 0.0, **mixer: Any) -> None:
        super().__init__()
        width = dim // EXPANSION
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = ACmixSliding(width, stride=stride, **mixer)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, dim, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(dim)
        self.drop_path = DropPath(drop_path)
        self.downsample = nn.Identity()
        if stride > 1 or in_channels != dim:
            self.downsample = nn.Sequential(nn.Conv2d(in_channels, dim, 1, stride, bias=False), nn.BatchNorm2d(dim))

    def forward(self, x: Tensor, padding_mask: None = None) -> Tensor:
        """(B, C, H, W) -> (B, D, ceil(H / stride), ceil(W / stride)); there is no ``padding_mask``."""
        branch = F.relu(self.bn1(self.conv1(x)))
        branch = F.relu(self.bn2(self.conv2(branch)))
        branch = self.drop_path(self.bn3(self.conv3(branch)))
        return F.relu(self.downsample(x) + branch)


@register_backbone
class ACmixResNet(Backbone):
    """ResNet with ACmix bottlenecks: four stages at 1/4, 1/8, 1/16, 1/32 with 256, 512, 1024, 2048 channels.

    With the 1000-way head 26, 38 and 50 have 10.5, 14.4 and 18.3 million parameters, counted; the authors' README says
    10.6, 14.6 and 18.6, which their code does not have either. The authors recommend ACmix in transformers instead,
    since sliding windows take more time than their operations suggest.

    Args:
        arch: '26', '38', '50' or a dict with one value for each stage of ``depths`` and optionally ``dims`` (256, 512,
            1024, 2048; multiples of 4), and ``drop_path_rate`` (0). Default: '50'.
        num_heads: Attention heads. Default: 4.
        attention_size: Side of the attention windows. Default: 7.
        options: Those of :class:`mmatconv.backbones.base.Backbone`, without ``token_mixer``, ``context_pool`` and
            ``mask_padding``. ``init`` is He initialisation for either value; it leaves ACmix's shifts alone.

    Raises:
        UserError: An unknown arch (the message lists the names) or an option out of its range.
    """

    arch_settings: Mapping[str, dict[str, Any]] = {
        '26': dict(depths=(1, 2, 4, 1)),
        '38': dict(depths=(2, 3, 5, 2)),
        '50': dict(depths=(3, 4, 6, 3)),
    }
    per_stage: Mapping[str, Any] = dict(depths=None, dims=(256, 512, 1024, 2048))
    flags: Mapping[str, Any] = dict(drop_path_rate=0.0)
    default_arch = '50'

    def __init__(
        self,
        arch: str | Mapping[str, Any] | None = None,
        num_heads: int = 4,
        attention_size: int = 7,
        **options: Any,
    ) -> None:
        for name in ('token_mixer', 'context_pool', 'mask_padding'):
            if options.get(name):
                raise UserError(f'{type(self).__name__} has no option {name}; leave it out.')
        self.mixer = dict(num_heads=num_heads, attention_size=attention_size)
        super().__init__(arch, **options)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')

    def make_downsample(self, i: int) -> nn.Module:
        if i > 0:
            return nn.Identity()
        channels = self.dims[0] // EXPANSION
        return nn.Sequential(
            nn.Conv2d(self.in_channels, channels, 7, 2, 3, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        )

    def make_block(self, i: int, j: int, drop_path: float) -> nn.Module:
        before = self.dims[i - 1] if i else self.dims[0] // EXPANSION
        in_channels = self.dims[i] if j else before
        stride = 2 if i and not j else 1
        return ACmixBottleneck(in_channels, self.dims[i], stride, drop_path, **self.mixer)

    def make_final_norm(self, dim: int) -> nn.Module:
        return nn.Identity()
