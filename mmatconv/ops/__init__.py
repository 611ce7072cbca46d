"""The operator, in torch alone."""

from mmatconv.ops.dynamic_conv.function import dynamic_depthwise_conv2d
from mmatconv.ops.dynamic_conv.reference import reference

__all__ = ['dynamic_depthwise_conv2d', 'reference']
