"""The building blocks, in torch alone."""

from mmatconv.layers.atconv import ATConv
from mmatconv.layers.block import Block, DropPath, LayerScale
from mmatconv.layers.channel_mixers import MLP, ConvGLU
from mmatconv.layers.downsample import ConvBN, ConvStem, PatchEmbed, PatchMerging
from mmatconv.layers.init import initialize
from mmatconv.layers.norms import LayerNorm2d, RMSNorm2d

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
