"""The pooling of context-to-kernel (C2K) for GPUs: a map is read once, and its gradient written once.

Where Triton cannot run, plain operations compute the same.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from mmatconv.ops.context_to_kernel.bins import members
from mmatconv.ops.memory_format import empty, nearest_format
from mmatconv.ops.paths import TritonLaunches
from mmatconv.ops.sum_dtype import sum_dtype


class Pool(torch.autograd.Function):
    """Arguments of ``context_pool`` -> (B, C, K * K), channels innermost, in float32 for half precision."""

    @staticmethod
    def forward(x: Tensor, size: int, grid: bool, path: str, sizes: Tensor | None) -> Tensor:
        with TritonLaunches('context_to_kernel', x, path) as launches:
            if launches is not None:
                return launches.pool(x, size, grid, sizes)
        wide = sum_dtype(x)
        if sizes is not None:
            shares = _shares(sizes, x.shape[2:], size, grid, wide)
            return (shares @ x.permute(0, 2, 3, 1).flatten(1, 2).to(wide)).transpose(1, 2)
        return torch.stack([pixels.mean((2, 3), dtype=wide) for pixels in _bins(x, size, grid)], dim=1).transpose(1, 2)

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: Tensor) -> None:
        x, *ctx.arguments, sizes = inputs
        ctx.save_for_backward(sizes)
        ctx.map = *x.shape[2:], nearest_format(x) == torch.channels_last, x.dtype

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        return Spread.apply(grad, *ctx.map, *ctx.arguments, *ctx.saved_tensors), None, None, None, None


class Spread(torch.autograd.Function):
    """The gradient of :class:`Pool`: (B, C, K * K) -> (B, C, H, W)."""

    @staticmethod
    def forward(
        grad: Tensor,
        height: int,
        width: int,
        channels_last: bool,
        dtype: torch.dtype,
        size: int,
        grid: bool,
        path: str,
        sizes: Tensor | None,
    ) -> Tensor:
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        with TritonLaunches('context_to_kernel', grad, path) as launches:
            if launches is not None:
                return launches.spread(grad, (height, width), size, grid, memory_format, dtype, sizes)
        y = empty((*grad.shape[:2], height, width), grad, memory_format)
        if sizes is not None:
            shares = _shares(sizes, (height, width), size, grid, grad.dtype)
            return y.copy_((grad @ shares).unflatten(2, (height, width))).to(dtype)
        y.zero_()
        for i, pixels in enumerate(_bins(y, size, grid)):
            pixels += (grad[:, :, i] / pixels.shape[2:].numel())[..., None, None]
        return y.to(dtype)

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: Tensor) -> None:
        ctx.arguments = inputs[5:-1]
        ctx.save_for_backward(inputs[-1])

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        return Pool.apply(grad, *ctx.arguments, *ctx.saved_tensors), None, None, None, None, None, None, None, None


def _shares(sizes: Tensor, shape: tuple[int, int], size: int, grid: bool, dtype: torch.dtype) -> Tensor:
    """The weight of every pixel of padded maps in the mean of every bin, (B, K * K, H * W)."""
    inside, length = members(sizes, shape, size, grid)
    return inside.flatten(2).to(dtype) / length


def _bins(x: Tensor, size: int, grid: bool) -> Iterator[Tensor]:
    """The pixels of every bin, views (B, C, h, w) of the map (copies where its rows do not follow each other)."""
    if not grid:
        x = x.flatten(2).unsqueeze(2)
    rows, columns = (size, size) if grid else (1, size * size)
    for i in range(rows):
        for j in range(columns):
            top, bottom, left, right = (*_edges(i, x.shape[2], rows), *_edges(j, x.shape[3], columns))
            yield x[:, :, top:bottom, left:right]


def _edges(i: int, size: int, bins: int) -> tuple[int, int]:
    return i * size // bins, ((i + 1) * size + bins - 1) // bins
