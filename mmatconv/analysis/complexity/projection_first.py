"""ATConv in the order of algorithm 1: projection of the whole map, then pooling. The FLOPs of the paper's tables."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from mmatconv.layers import ATConv
from mmatconv.layers.context_pool import CONTEXT_POOLS


@contextmanager
def projection_first(model: nn.Module) -> Iterator[nn.Module]:
    """Inside the context every ATConv of a model computes as algorithm 1 of the paper and the released code do.

    Our own order is pooling first. Here ``kernel_proj`` runs over the whole map and the pooling follows, the whole
    batch is one convolution with ``B * C`` groups, and maps are contiguous. Results are the same up to rounding.

    Args:
        model: Any module, ATConv itself included.

    Yields:
        The model.
    """
    layers = [module for module in model.modules() if isinstance(module, ATConv)]
    for layer in layers:
        layer.forward = partial(forward_projection_first, layer)
    try:
        yield model
    finally:
        for layer in layers:
            vars(layer).pop('forward', None)


def forward_projection_first(layer: ATConv, x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, H, W), what ``layer`` computes, in the order of algorithm 1."""
    x = x.contiguous()
    batch, channels, height, width = x.shape
    size = layer.kernel_size
    context = CONTEXT_POOLS[layer.context_pool](layer.kernel_proj(x), size)
    kernels = layer.modulate(layer.kernel_gen(layer.kernel_act(context)))
    groups = batch * channels
    value = layer.x_proj(x).reshape(1, groups, height, width)
    kernels = kernels.to(value.dtype).reshape(groups, 1, size, size)
    output = F.conv2d(value, kernels, padding=size // 2, groups=groups)
    return layer.proj(output.reshape(batch, channels, height, width))
