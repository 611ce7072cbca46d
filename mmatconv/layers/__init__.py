"""The building blocks, in torch alone."""

from .atconv import ATConv
from .block import Block, DropPath, LayerScale
from .channel_mixers import MLP, ConvGLU
from .init import initialize
from .norms import LayerNorm2d, RMSNorm2d

__all__ = ['MLP', 'ATConv', 'Block', 'ConvGLU', 'DropPath', 'LayerNorm2d', 'LayerScale', 'RMSNorm2d', 'initialize']
