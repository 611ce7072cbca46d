"""The operator, in torch alone."""

from .dynamic_depthwise_conv2d import dynamic_depthwise_conv2d
from .reference import reference

__all__ = ['dynamic_depthwise_conv2d', 'reference']
