"""The backbones, registered in MMEngine's root registry."""

from mmatconv.backbones.acmix_resnet import ACmixResNet
from mmatconv.backbones.atconv_pvt import ATConvPVT
from mmatconv.backbones.atconv_swin import ATConvSwin
from mmatconv.backbones.attnet import AttNet
from mmatconv.backbones.token_mixers import TOKEN_MIXERS

__all__ = ['TOKEN_MIXERS', 'ACmixResNet', 'ATConvPVT', 'ATConvSwin', 'AttNet']
