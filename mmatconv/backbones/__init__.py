"""The backbones, registered in MMEngine's root registry."""

from .atconv_pvt import ATConvPVT
from .attnet import AttNet

__all__ = ['ATConvPVT', 'AttNet']
