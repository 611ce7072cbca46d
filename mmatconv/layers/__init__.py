"""The building blocks, in torch alone."""

from .atconv import ATConv
from .block import Block, DropPath, LayerScale
from .channel_mixers import MLP, ConvGLU
from .downsample import ConvBN, ConvStem, PatchEmbed, PatchMerging
from .init import initialize
from .norms import LayerNorm2d, RMSNorm2d

__all__ = [
    'MLP',
    'ATConv',
    'Block',
    'ConvBN',
    'ConvGLU',
    'ConvStem',
    'DropPath',
    'LayerNorm2d',
    'LayerScale',
    'PatchEmbed',
    'PatchMerging',
    'RMSNorm2d',
    'initialize',
]
