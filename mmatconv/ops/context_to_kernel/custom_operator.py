"""Context-to-kernel (C2K) for GPUs, as operators of torch: the pooling of a map, and kernels from the context.

torch.compile and torch.export see one call for each, as they do for the convolution: left to plain operations, a
compiler reads a channels_last map once for each strip. Where Triton cannot run, plain operations compute them.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from mmatconv.ops.memory_format import empty, nearest_format
from mmatconv.ops.paths import run_step

NAME = 'context-to-kernel'
MODULE = 'context_to_kernel.triton_launch'


def context_pool(x: Tensor, size: int, grid: bool) -> Tensor:
    """Adaptive average of a map over K * K bins, which is read once.

    Differentiable to any order.

    Args:
        x: (B, C, H, W), any strides.
        size: K.
        grid: Bins are cells of a K x K grid, rows first; else overlapping strips, runs of pixels in reading order.

    Returns:
        (B, C, K * K), channels innermost.
    """
    return torch.ops.mmatconv.context_pool(x, size, grid)


def generate_kernels(
    context: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    difference: Tensor,
    sigmoid: bool,
    size: int,
    channels_last: bool,
) -> Tensor:
    """GELU, the product over the positions and differential kernel modulation (DKM) in one launch.

    ``kernels = gelu(context) @ weight.T + bias``, to which the mean over the positions is added, times ``difference``
    or, with ``sigmoid``, times ``-sigmoid(difference)``. Sums are kept in float32 (float64 for float64), under
    autocast too. The backward pass is plain operations on tensors of K * K positions, which a map's cost hides.

    Args:
        context: (B, C, K * K), any strides.
        weight: (K * K, K * K).
        bias: (K * K,) or None.
        difference: (C,).
        sigmoid: Whether ``difference`` is the parameter of DKM, not what is added of the mean.
        size: K.
        channels_last: Write the kernels with channels innermost.

    Returns:
        (B, C, K, K), dtype of ``context``.
    """
    return torch.ops.mmatconv.generate_kernels(context, weight, bias, difference, sigmoid, size, channels_last)


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
    return i * size // bins, -(-(i + 1) * size // bins)


def _pool(x: Tensor, size: int, grid: bool) -> Tensor:
    return torch.stack([pixels.mean((2, 3)) for pixels in _bins(x, size, grid)], dim=1).transpose(1, 2)


def _spread(grad: Tensor, shape: tuple[int, int], size: int, grid: bool, memory_format: torch.memory_format) -> Tensor:
    y = empty((*grad.shape[:2], *shape), grad, memory_format).zero_()
    for i, pixels in enumerate(_bins(y, size, grid)):
        pixels += (grad[:, :, i] / pixels.shape[2:].numel())[..., None, None]
    return y


def _generate(
    context: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    difference: Tensor,
    sigmoid: bool,
    size: int,
    channels_last: bool,
) -> Tensor:
    kernels = F.linear(F.gelu(context.to(_wide(context))), weight.to(_wide(context)))
    if bias is not None:
        kernels = kernels + bias
    factor = -difference.sigmoid() if sigmoid else difference
    kernels = kernels + factor[:, None] * kernels.mean(2, keepdim=True)
    output = empty((*context.shape[:2], size, size), context, _format(channels_last))
    return output.copy_(kernels.unflatten(2, (size, size)))


def _wide(x: Tensor) -> torch.dtype:
    """What sums of numbers of ``x`` are kept in."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _format(channels_last: bool) -> torch.memory_format:
    return torch.channels_last if channels_last else torch.contiguous_format


if hasattr(torch.library, 'custom_op'):

    @torch.library.custom_op('mmatconv::context_pool', mutates_args=())
    def _pool_operator(x: Tensor, size: int, grid: bool) -> Tensor:
        return run_step(NAME, x, MODULE, lambda triton: triton.pool(x, size, grid), lambda: _pool(x, size, grid))

    @_pool_operator.register_fake
    def _(x: Tensor, size: int, grid: bool) -> Tensor:
        return x.new_empty(x.shape[0], size * size, x.shape[1]).transpose(1, 2)

    @torch.library.custom_op('mmatconv::context_pool_backward', mutates_args=())
    def _spread_operator(grad: Tensor, height: int, width: int, size: int, grid: bool, channels_last: bool) -> Tensor:
        arguments = grad, (height, width), size, grid, _format(channels_last)
        return run_step(NAME, grad, MODULE, lambda triton: triton.spread(*arguments), lambda: _spread(*arguments))

    @_spread_operator.register_fake
    def _(grad: Tensor, height: int, width: int, size: int, grid: bool, channels_last: bool) -> Tensor:
        return empty((*grad.shape[:2], height, width), grad, _format(channels_last))

    def _save_map(ctx, inputs, output) -> None:
        x, ctx.size, ctx.grid = inputs
        ctx.map = *x.shape[2:], nearest_format(x) == torch.channels_last

    def _pool_backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        height, width, channels_last = ctx.map
        return _spread_operator(grad, height, width, ctx.size, ctx.grid, channels_last), None, None

    _pool_operator.register_autograd(_pool_backward, setup_context=_save_map)

    def _save_bins(ctx, inputs, output) -> None:
        ctx.size, ctx.grid = inputs[3:5]

    def _spread_backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _pool_operator(grad, ctx.size, ctx.grid), None, None, None, None, None

    _spread_operator.register_autograd(_spread_backward, setup_context=_save_bins)

    @torch.library.custom_op('mmatconv::generate_kernels', mutates_args=())
    def _generate_operator(
        context: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        difference: Tensor,
        sigmoid: bool,
        size: int,
        channels_last: bool,
    ) -> Tensor:
        arguments = context, weight, bias, difference, sigmoid, size, channels_last
        return run_step(
            NAME, context, MODULE, lambda triton: triton.generate(*arguments), lambda: _generate(*arguments)
        )

    @_generate_operator.register_fake
    def _(
        context: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        difference: Tensor,
        sigmoid: bool,
        size: int,
        channels_last: bool,
    ) -> Tensor:
        return empty((*context.shape[:2], size, size), context, _format(channels_last))

    def _save_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(*inputs[:4])
        ctx.sigmoid = inputs[4]

    def _generate_backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        context, weight, bias, difference = ctx.saved_tensors
        for_context, for_weight, for_bias, for_difference = ctx.needs_input_grad[:4]
        wide, positions = _wide(context), context.shape[2]
        grad, value = grad.flatten(2).to(wide), context.to(wide)
        activated = F.gelu(value)
        factor = -difference.sigmoid() if ctx.sigmoid else difference
        total = grad.sum(2, keepdim=True)
        before = grad + factor[:, None] * total / positions
        rows = before.flatten(0, 1)
        grad_context = grad_difference = None
        if for_context:
            grad_context = torch.ops.aten.gelu_backward(before @ weight.to(wide), value).to(context.dtype)
        if for_difference:
            # The mean over the positions is a product with the mean row of the weights.
            mean = activated @ weight.to(wide).mean(0)
            if bias is not None:
                mean = mean + bias.to(wide).mean()
            grad_difference = (total.squeeze(2) * mean).sum(0)
            if ctx.sigmoid:
                grad_difference = grad_difference * factor * (1 + factor)
            grad_difference = grad_difference.to(difference.dtype)
        grad_weight = (rows.t() @ activated.flatten(0, 1)).to(weight.dtype) if for_weight else None
        grad_bias = rows.sum(0).to(bias.dtype) if bias is not None and for_bias else None
        return grad_context, grad_weight, grad_bias, grad_difference, None, None, None

    _generate_operator.register_autograd(_generate_backward, setup_context=_save_context)
