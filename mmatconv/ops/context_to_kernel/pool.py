"""The pooling of context-to-kernel (C2K) for GPUs: a map is read once, and its gradient written once.

Others read the map too, and autograd would add their gradient to the pooling's, reading both again. The pooling
therefore hands the map on, and adds what comes back to its own gradient as it writes it.

Where Triton cannot run, plain operations compute the same.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from mmatconv.ops.autograd_function import Function
from mmatconv.ops.context_to_kernel.bins import members
from mmatconv.ops.memory_format import empty, nearest_format
from mmatconv.ops.paths import TritonLaunches
from mmatconv.ops.sum_dtype import sum_dtype


class Pool(Function):
    """Arguments of ``context_pool`` -> its results."""

    @staticmethod
    def forward(x: Tensor, size: int, grid: bool, path: str, sizes: Tensor | None) -> tuple[Tensor, Tensor]:
        with TritonLaunches('context_to_kernel', x, path) as launches:
            if launches is not None:
                return launches.pool(x, size, grid, sizes), x.view_as(x)
        wide = sum_dtype(x)
        if sizes is None:
            means = torch.stack([pixels.mean((2, 3), dtype=wide) for pixels in _bins(x, size, grid)], dim=1)
        else:
            shares = _shares(sizes, x.shape[2:], size, grid, wide)
            means = shares @ x.permute(0, 2, 3, 1).flatten(1, 2).to(wide)
        return means.transpose(1, 2), x.view_as(x)

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: object) -> None:
        x, *ctx.arguments, sizes = inputs
        ctx.save_for_backward(sizes)
        ctx.map = *x.shape[2:], nearest_format(x) == torch.channels_last, x.dtype
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, grad: Tensor | None, grad_map: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad is not None:
            spread = Spread.apply if torch.is_grad_enabled() else Spread.forward
            grad_map = spread(grad, grad_map, *ctx.map, *ctx.arguments, *ctx.saved_tensors)
        return grad_map, None, None, None, None


class Spread(Function):
    """The gradient of :class:`Pool`: (B, C, K * K), and (B, C, H, W) or None of the map -> (B, C, H, W)."""

    @staticmethod
    def forward(
        grad: Tensor,
        grad_map: Tensor | None,
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
                return launches.spread(grad, grad_map, (height, width), size, grid, memory_format, dtype, sizes)
        y = empty((*grad.shape[:2], height, width), grad, memory_format)
        if sizes is not None:
            shares = _shares(sizes, (height, width), size, grid, grad.dtype)
            y.copy_((grad @ shares).unflatten(2, (height, width)))
        else:
            y.zero_()
            for i, pixels in enumerate(_bins(y, size, grid)):
                pixels += (grad[:, :, i] / pixels.shape[2:].numel())[..., None, None]
        return (y if grad_map is None else y.add_(grad_map)).to(dtype)

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: Tensor) -> None:
        ctx.arguments = inputs[-4:-1]
        ctx.save_for_backward(inputs[-1])

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *Pool.apply(grad, *ctx.arguments, *ctx.saved_tensors), *(None,) * 8


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
