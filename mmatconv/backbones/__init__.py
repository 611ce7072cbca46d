"""The backbones, registered in MMEngine's root registry."""

from .atconv_pvt import ATConvPVT
from .atconv_swin import ATConvSwin
from .attnet import AttNet
from .token_mixers import TOKEN_MIXERS

__all__ = ['TOKEN_MIXERS', 'ATConvPVT', 'ATConvSwin', 'AttNet']
