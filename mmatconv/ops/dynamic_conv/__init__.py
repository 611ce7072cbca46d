"""The dynamic depthwise convolution."""
