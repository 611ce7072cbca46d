"""Feature maps for programs outside OpenMMLab: by name as in timm, and as a backbone of torchvision's detectors."""

import os
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from mmatconv.backbones.atconv_pvt import ATConvPVT
from mmatconv.backbones.atconv_swin import ATConvSwin
from mmatconv.backbones.attnet import AttNet
from mmatconv.checkpoint.loading import load_pretrained
from mmatconv.errors import UserError

FAMILIES = {'attnet': AttNet, 'atconv_pvt': ATConvPVT, 'atconv_swin': ATConvSwin}
NAMES = {f'{family}_{arch.lower()}': (kind, arch) for family, kind in FAMILIES.items() for arch in kind.arch_settings}


class FeatureInfo:
    """What is known of the returned maps, in the manner of timm's class of this name.

    Args:
        info: For each map ``num_chs``, ``reduction`` and ``module``.
    """

    def __init__(self, info: Sequence[dict[str, Any]]) -> None:
        self.info = list(info)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return self.info[i]

    def __len__(self) -> int:
        return len(self.info)

    def channels(self) -> list[int]:
        """Channels C of each map."""
        return [each['num_chs'] for each in self.info]

    def reduction(self) -> list[int]:
        """Pixels of the image along each side of a pixel of each map."""
        return [each['reduction'] for each in self.info]

    def module_name(self) -> list[str]:
        """The module of the backbone that each map comes from."""
        return [each['module'] for each in self.info]


class Features(nn.Module):
    """A backbone that returns a list of feature maps; made by :func:`features_only`.

    Attributes:
        body: The backbone.
        feature_info: What is known of the maps.
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        last = {i: f'out_norms.{i}' if body.out_norms else f'stages.{i}.{body.depths[i] - 1}' for i in body.out_indices}
        self.feature_info = FeatureInfo(
            [dict(num_chs=body.dims[i], reduction=4 * 2**i, module=name) for i, name in last.items()]
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, in_channels, H, W) -> (B, C, H / reduction, W / reduction) for each stage returned, sides rounded up."""
        return list(self.body(x))


def features_only(
    name: str,
    checkpoint: str | os.PathLike | None = None,
    out_indices: Sequence[int] = (0, 1, 2, 3),
    prefix: str | None = None,
    **options: Any,
) -> Features:
    """A backbone by name, as ``timm.create_model(name, features_only=True)`` makes one; needs torch only.

    Args:
        name: 'attnet_t2', 'atconv_pvt_small', 'atconv_swin_tiny', ...; the message of the error lists all.
        checkpoint: File or address of weights, released or from a training here. Default: None.
        out_indices: Stages whose maps are returned. Default: all four.
        prefix: Of the backbone's names in the checkpoint, 'backbone.' for a whole detector. Default: None.
        options: The backbone's own, such as ``in_channels`` or ``init='live'``.

    Returns:
        The module, with ``feature_info`` as in timm: ``channels()``, ``reduction()`` and ``module_name()``.

    Raises:
        UserError: An unknown name, an option out of its range, or a checkpoint that does not fit.
    """
    if name.lower() not in NAMES:
        raise UserError(f'there is no backbone {name!r}; choose from {", ".join(NAMES)}.')
    kind, arch = NAMES[name.lower()]
    body = kind(arch, out_indices=tuple(out_indices), **options)
    if checkpoint is not None:
        load_pretrained(body, checkpoint, prefix)
    return Features(body)


class FPNFeatures(nn.Module):
    """A backbone with a feature pyramid, as torchvision's detectors take one.

    ``MaskRCNN(FPNFeatures(features_only('attnet_t2')), num_classes=91)``. Needs torchvision.

    Args:
        features: What :func:`features_only` returned.
        out_channels: Channels of every map of the pyramid. Default: 256.
    """

    def __init__(self, features: Features, out_channels: int = 256) -> None:
        super().__init__()
        from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

        self.features = features
        self.fpn = FeaturePyramidNetwork(features.feature_info.channels(), out_channels, LastLevelMaxPool())
        self.out_channels = out_channels

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """(B, in_channels, H, W) -> a map (B, out_channels, H', W') for each stage, '0' the finest, and 'pool'."""
        return self.fpn(OrderedDict((str(i), x) for i, x in enumerate(self.features(x))))
