"""Context-to-kernel (C2K) as operators of torch, for torch.compile and torch.export.

Left to plain operations, a compiler reads a channels_last map once for each strip.
"""

import torch
from torch import Tensor

from mmatconv.ops.context_to_kernel.generate import Generate
from mmatconv.ops.context_to_kernel.pool import Pool, Spread
from mmatconv.ops.memory_format import empty
from mmatconv.ops.paths import choose
from mmatconv.ops.sum_dtype import sum_dtype
from mmatconv.ops.tracing import HAS_CUSTOM_OPERATORS


def _format(channels_last: bool) -> torch.memory_format:
    return torch.channels_last if channels_last else torch.contiguous_format


if HAS_CUSTOM_OPERATORS:

    @torch.library.custom_op('mmatconv::context_pool', mutates_args=())
    def pool(x: Tensor, size: int, grid: bool, path: str, sizes: Tensor | None = None) -> Tensor:
        return Pool.forward(x, size, grid, choose(x, path), sizes)[0]

    @pool.register_fake
    def _(x: Tensor, size: int, grid: bool, path: str, sizes: Tensor | None = None) -> Tensor:
        return x.new_empty(x.shape[0], size * size, x.shape[1], dtype=sum_dtype(x)).transpose(1, 2)

    @torch.library.custom_op('mmatconv::context_pool_backward', mutates_args=())
    def spread(
        grad: Tensor,
        height: int,
        width: int,
        channels_last: bool,
        dtype: torch.dtype,
        size: int,
        grid: bool,
        path: str,
        sizes: Tensor | None = None,
    ) -> Tensor:
        return Spread.forward(grad, None, height, width, channels_last, dtype, size, grid, choose(grad, path), sizes)

    @spread.register_fake
    def _(
        grad: Tensor,
        height: int,
        width: int,
        channels_last: bool,
        dtype: torch.dtype,
        size: int,
        grid: bool,
        path: str,
        sizes: Tensor | None = None,
    ) -> Tensor:
        return empty((*grad.shape[:2], height, width), grad, _format(channels_last)).to(dtype)

    def _pool_backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        return spread(grad, *ctx.map, *ctx.arguments, *ctx.saved_tensors), None, None, None, None

    def _spread_backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        return pool(grad, *ctx.arguments, *ctx.saved_tensors), None, None, None, None, None, None, None, None

    pool.register_autograd(_pool_backward, setup_context=Pool.setup_context)
    spread.register_autograd(_spread_backward, setup_context=Spread.setup_context)

    @torch.library.custom_op('mmatconv::generate_kernels', mutates_args=())
    def generate(
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
        arguments = context, weight, bias, difference, sigmoid, size, channels_last, dtype
        return Generate.forward(*arguments, choose(context, path))

    @generate.register_fake
    def _(
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
        shape = *context.shape[:2], size, size
        return torch.empty(shape, dtype=dtype, device=context.device, memory_format=_format(channels_last))

    generate.register_autograd(Generate.backward, setup_context=Generate.setup_context)

else:  # torch before 2.4 has none in Python, and sees the functions
    generate = Generate.apply

    def pool(*arguments) -> Tensor:
        return Pool.apply(*arguments)[0]
