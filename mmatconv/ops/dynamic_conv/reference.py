"""The definition of the dynamic depthwise convolution in plain tensor operations: the oracle for every fast path."""

import torch
import torch.nn.functional as F
from torch import Tensor


def reference(input: Tensor, kernel: Tensor) -> Tensor:
    """Sum of K*K shifted copies of the zero-padded input, each times its kernel entry (equation 11 of the paper).

    Args:
        input: (B, C, H, W).
        kernel: (B, C, K, K), K odd.

    Returns:
        (B, C, H, W).
    """
    height, width = input.shape[-2:]
    size = kernel.shape[-1]
    pad = size // 2
    padded = F.pad(input, (pad, pad, pad, pad))
    output = torch.zeros_like(input)
    for row in range(size):
        for column in range(size):
            window = padded[..., row : row + height, column : column + width]
            output = output + window * kernel[..., row, column, None, None]
    return output
