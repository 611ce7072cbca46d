"""The gated linear unit whose gate is a 3x3 depthwise convolution: an autograd function that keeps its inputs alone.

As single operations torch would also keep the convolution's output and its GELU, two more maps of the hidden size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmatconv.ops.autograd_function import Function
from mmatconv.ops.gradients import differentiable_gradients
from mmatconv.ops.padding import zero_padding
from mmatconv.ops.paths import TritonLaunches
from mmatconv.ops.rms_scale import rms_scale
from mmatconv.ops.tracing import is_observed


def conv_gelu_mul(
    both: Tensor,
    both_bias: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float | None,
    path: str,
    sizes: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """``gelu(conv2d(gate, weight) + bias) * value`` and what RMSNorm multiplies each pixel of it by.

    Differentiable to any order. Sums are kept in float32 (float64 for float64), also those over the channels, which
    are of the product before it is rounded. Weight and bias may be of a wider dtype than the maps.

    Args:
        both: (B, H, W, 2 * D), gate and value; copied unless channels are adjacent and pixels evenly spaced in memory.
            One map, so that one product makes it and takes its gradient.
        both_bias: (2 * E,), what has been added to every pixel of ``both``. It is not read: its gradient, the sum of
            that of ``both``, is found on the way, where a product would read the whole map for it. Add it to ``both``
            detached.
        weight: (E, 1, 3, 3). Channels from E to D of gate and value are padding, must be zero, and stay so.
        bias: (E,).
        eps: Added to the mean square over the E channels; None for no scale.
        path: What ``paths.choose`` returned.
        sizes: (B, 2), integers, height and width of each map without its padding; there the gate is read as zero and
            its gradient is zero. Default: None, no padding.

    Returns:
        The product (B, H, W, D), contiguous, and ``1 / sqrt(mean(product ** 2) + eps)``, (B, H, W, 1), in float32 for
        half precision, or None.

    Raises:
        UserError: Path 'triton' where it cannot run.
    """
    if is_observed():
        return _plain(both, both_bias, weight, bias, sizes, eps)
    return _ConvGeluMul.apply(both, both_bias, weight, bias, sizes, eps, path)


def _plain(
    both: Tensor, both_bias: Tensor, weight: Tensor, bias: Tensor, sizes: Tensor | None, eps: float | None
) -> tuple[Tensor, Tensor | None]:
    hidden = weight.shape[0]
    pad = both.shape[-1] // 2 - hidden
    # Adds zero, whose derivative is that of the bias.
    zero = F.pad((both_bias - both_bias.detach()).view(2, hidden), (0, pad)).flatten()
    gate, value = (both + zero.to(both.dtype)).chunk(2, dim=-1)
    maps = zero_padding(gate[..., :hidden].permute(0, 3, 1, 2), sizes)
    gate = F.conv2d(maps, weight.to(gate.dtype), bias.to(gate.dtype), padding=1, groups=hidden).permute(0, 2, 3, 1)
    product = F.gelu(gate) * value[..., :hidden]
    scale = None if eps is None else rms_scale(product, eps)
    return (F.pad(product, (0, pad)) if pad else product), scale


class _ConvGeluMul(Function):
    @staticmethod
    def forward(
        both: Tensor,
        both_bias: Tensor,
        weight: Tensor,
        bias: Tensor,
        sizes: Tensor | None,
        eps: float | None,
        path: str,
    ) -> tuple[Tensor, Tensor | None]:
        with TritonLaunches('glu', both, path, 'conv') as launches:
            if launches is not None:
                return launches.conv_gate(both, weight, bias, sizes, eps)
        return _plain(both, both_bias, weight, bias, sizes, eps)

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: tuple) -> None:
        *maps, ctx.eps, ctx.path = inputs
        ctx.save_for_backward(*maps, output[1])

    @staticmethod
    def backward(ctx, grad: Tensor, grad_scale: Tensor | None) -> tuple[Tensor | None, ...]:
        *inputs, sizes, scale = ctx.saved_tensors
        if not torch.is_grad_enabled():
            with TritonLaunches('glu', inputs[0], ctx.path, 'conv') as launches:
                if launches is not None:
                    both, _, weight, bias = inputs
                    gradients = launches.conv_gate_gradients(grad, grad_scale, both, weight, bias, sizes, scale)
                    return *gradients, None, None, None
        # In operations that autograd can differentiate again, and where Triton cannot run.
        with_scale = ctx.eps is not None

        def plain(*inputs: Tensor) -> tuple[Tensor, ...]:
            return _plain(*inputs, sizes, ctx.eps)[: 1 + with_scale]

        grads = (grad, grad_scale)[: 1 + with_scale]
        return *differentiable_gradients(plain, inputs, ctx.needs_input_grad[:4], grads), None, None, None
