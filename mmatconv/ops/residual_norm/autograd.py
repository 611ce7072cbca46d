"""Residual sum and LayerNorm as an autograd function, which keeps for its backward pass what others keep anyway.

That is the stream, which the next sum reads too, or with a LayerScale the stream before and the branch, from which the
gradients are computed in one reading; a branch with a scale is kept for that scale's gradient. The normalised map is
not kept.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmatconv.ops.autograd_function import Function
from mmatconv.ops.paths import TritonLaunches
from mmatconv.ops.residual_norm.branch import Branch
from mmatconv.ops.sum_dtype import sum_dtype


class ResidualNorm(Function):
    """Arguments of ``residual_norm``, branch and norm in three each, without a norm where eps is None."""

    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        product: Tensor | None,
        scale: Tensor | None,
        offset: Tensor | None,
        gamma: Tensor | None,
        factor: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float | None,
        dtype: torch.dtype,
        stream_dtype: torch.dtype,
        path: str,
    ) -> tuple[Tensor, Tensor | None]:
        arguments = x, product, scale, offset, gamma, factor, weight, bias, eps, dtype, stream_dtype
        results = None
        with TritonLaunches('residual_norm', x, path, x.shape[1]) as launches:
            if launches is not None:
                results = launches.add_and_normalise(*arguments)
        if results is None:
            path = 'grouped'
            results = *_on_torch(*arguments), None
        stream, normalised, stats = results
        ctx.save_for_backward(
            None if eps is None else stream if gamma is None else x,
            product if gamma is not None or scale is not None else None,
            scale,
            offset,
            gamma,
            factor,
            weight,
            stats,
        )
        ctx.dtypes = x.dtype, stream_dtype, None if product is None else product.dtype
        ctx.bias_dtype = None if bias is None else bias.dtype
        ctx.eps, ctx.path = eps, path
        ctx.set_materialize_grads(False)
        return stream, normalised

    @staticmethod
    def backward(ctx, grad_stream: Tensor | None, grad_normalised: Tensor | None) -> tuple[Tensor | None, ...]:
        some = grad_normalised if grad_stream is None else grad_stream
        if some is None:
            return (None,) * 12
        arguments = grad_stream, grad_normalised, *ctx.saved_tensors
        gradients = None
        if not torch.is_grad_enabled():
            with TritonLaunches('residual_norm', some, ctx.path, some.shape[1]) as launches:
                if launches is not None:
                    gradients = launches.gradients(*arguments, ctx.dtypes)
        if gradients is None:
            gradients = _gradients_on_torch(*arguments[:-1], ctx.eps, ctx.dtypes)
        *others, grad_weight, grad_bias = gradients
        grad_bias = None if ctx.bias_dtype is None or grad_bias is None else grad_bias.to(ctx.bias_dtype)
        return *others, None, grad_weight, grad_bias, None, None, None, None


def _on_torch(
    x: Tensor,
    product: Tensor | None,
    scale: Tensor | None,
    offset: Tensor | None,
    gamma: Tensor | None,
    factor: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float | None,
    dtype: torch.dtype,
    stream_dtype: torch.dtype,
) -> tuple[Tensor, Tensor | None]:
    x = x.to(stream_dtype)
    stream = x if product is None else _add(x, Branch(product, scale, offset).total(), gamma, factor)
    if eps is None:
        return stream, None
    normalised = F.layer_norm(stream.permute(0, 2, 3, 1), (x.shape[1],), weight, bias, eps).permute(0, 3, 1, 2)
    return stream, normalised.to(dtype)


def _add(x: Tensor, branch: Tensor, gamma: Tensor | None, factor: Tensor | None) -> Tensor:
    scale = _scale(gamma, factor)
    return x + branch if scale is None else torch.addcmul(x, branch, scale).to(x.dtype)


def _scale(gamma: Tensor | None, factor: Tensor | None) -> Tensor | None:
    """What multiplies the branch, broadcast to (B, C, H, W)."""
    if gamma is None:
        return factor
    return gamma[:, None, None] if factor is None else factor * gamma[:, None, None]


def _gradients_on_torch(
    grad_stream: Tensor | None,
    grad_normalised: Tensor | None,
    x: Tensor | None,
    product: Tensor | None,
    scale: Tensor | None,
    offset: Tensor | None,
    gamma: Tensor | None,
    factor: Tensor | None,
    weight: Tensor | None,
    eps: float | None,
    dtypes: tuple[torch.dtype, torch.dtype, torch.dtype | None],
) -> tuple[Tensor | None, ...]:
    """Gradients of x, product, scale, offset, gamma, weight and bias in operations that can be differentiated again.

    ``x`` is the stream itself without a LayerScale, the stream before with one.
    """
    x_dtype, stream_dtype, product_dtype = dtypes
    grad_product = grad_scale = grad_offset = grad_gamma = grad_weight = grad_bias = None
    branch = None if gamma is None else Branch(product, scale, offset).total()
    total = grad_stream
    if grad_normalised is not None:
        stream = x if gamma is None else _add(x.to(stream_dtype), branch, gamma, factor)
        wide = stream.to(sum_dtype(stream))
        centred = wide - wide.mean(1, keepdim=True)
        rstd = (centred.square().mean(1, keepdim=True) + eps).rsqrt()
        normal = centred * rstd
        grad = grad_normalised.to(wide.dtype)
        grad_bias = grad.sum((0, 2, 3))
        if weight is not None:
            grad_weight = (grad * normal).sum((0, 2, 3)).to(weight.dtype)
            grad = grad * weight[:, None, None]
        along = (grad - grad.mean(1, keepdim=True) - normal * (grad * normal).mean(1, keepdim=True)) * rstd
        total = (along if total is None else total + along).to(stream_dtype)
    if gamma is not None:
        products = total * branch if factor is None else total * factor * branch
        grad_gamma = products.sum((0, 2, 3), dtype=sum_dtype(products)).to(gamma.dtype)
    if product_dtype is not None:
        factors = _scale(gamma, factor)
        grad = total if factors is None else total * factors
        if offset is not None:
            grad_offset = grad.sum((0, 2, 3), dtype=sum_dtype(grad)).to(offset.dtype)
        if scale is not None:
            grad_scale = (grad * product).sum(1, keepdim=True, dtype=sum_dtype(grad)).to(scale.dtype)
            grad = grad * scale
        grad_product = grad.to(product_dtype)
    return total.to(x_dtype), grad_product, grad_scale, grad_offset, grad_gamma, grad_weight, grad_bias
