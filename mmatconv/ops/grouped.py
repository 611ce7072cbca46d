"""The dynamic depthwise convolution through torch's own depthwise convolution: the path for CPU and the fallback."""

import torch
import torch.nn.functional as F
from torch import Tensor


def is_channels_last(x: Tensor) -> bool:
    """Whether (B, C, H, W) ``x`` lies channel-innermost in memory and not also in the default order."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def grouped(input: Tensor, kernel: Tensor) -> Tensor:
    """Depthwise convolution with a kernel for each sample and channel.

    In the default memory format the batch is moved into the groups, one call in all. For channels_last that would
    copy the map twice, so there each sample is one depthwise call and nothing is rearranged.

    Args:
        input: (B, C, H, W).
        kernel: (B, C, K, K), K odd.

    Returns:
        (B, C, H, W) in the memory format of ``input``.
    """
    batch, channels, height, width = input.shape
    size = kernel.shape[-1]
    if batch == 1:
        return F.conv2d(input, kernel.reshape(channels, 1, size, size), padding=size // 2, groups=channels)
    if is_channels_last(input):
        samples = [
            F.conv2d(x, k.unsqueeze(1), padding=size // 2, groups=channels)
            for x, k in zip(input.split(1), kernel.unbind())
        ]
        return torch.cat(samples).contiguous(memory_format=torch.channels_last)
    groups = batch * channels
    output = F.conv2d(
        input.reshape(1, groups, height, width),
        kernel.reshape(groups, 1, size, size),
        padding=size // 2,
        groups=groups,
    )
    return output.reshape(batch, channels, height, width)
