"""Context-to-kernel (C2K) for GPUs: the pooling of a map, and kernels from the context."""

import torch
from torch import Tensor

from mmatconv.ops.context_to_kernel import custom_operator
from mmatconv.ops.context_to_kernel.generate import Generate
from mmatconv.ops.context_to_kernel.pool import Pool
from mmatconv.ops.tracing import is_observed


def context_pool(x: Tensor, size: int, grid: bool, path: str, sizes: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Adaptive average of a map over K * K bins, which is read once, and the map.

    Differentiable to any order.

    Args:
        x: (B, C, H, W), any strides.
        size: K.
        grid: Bins are cells of a K x K grid, rows first; else overlapping strips, runs of pixels in reading order.
        path: What ``paths.choose`` returned.
        sizes: (B, 2), int32, on the device of ``x``: height and width of each map without its padding, over which
            alone the bins lie; its gradient is zero outside. Default: None, no padding.

    Returns:
        (B, C, K * K), channels innermost, in float32 for half precision, and ``x`` for all else that reads it: what
        comes back to this one is added to the pooling's gradient in the same writing.

    Raises:
        UserError: Path 'triton' where it cannot run.
    """
    if is_observed():
        return custom_operator.pool(x, size, grid, path, sizes), x
    return Pool.apply(x, size, grid, path, sizes)


def generate_kernels(
    context: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    difference: Tensor,
    sigmoid: bool,
    size: int,
    channels_last: bool,
    dtype: torch.dtype,
    path: str,
) -> Tensor:
    """GELU, the product over the positions and differential kernel modulation (DKM) in one launch.

    ``kernels = gelu(context) @ weight.T + bias``, to which the mean over the positions is added, times ``difference``
    or, with ``sigmoid``, times ``-sigmoid(difference)``. Sums are kept in float32 (float64 for float64), under
    autocast too. Differentiable to any order.

    Args:
        context: (B, C, K * K), any strides.
        weight: (K * K, K * K).
        bias: (K * K,) or None.
        difference: (C,).
        sigmoid: Whether ``difference`` is the parameter of DKM rather than the factor of the mean.
        size: K.
        channels_last: Write the kernels with channels innermost.
        dtype: Of the kernels, that of the map which they convolve.
        path: What ``paths.choose`` returned.

    Returns:
        (B, C, K, K).

    Raises:
        UserError: Path 'triton' where it cannot run.
    """
    generate = custom_operator.generate if is_observed() else Generate.apply
    return generate(context, weight, bias, difference, sigmoid, size, channels_last, dtype, path)
