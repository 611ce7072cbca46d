"""From the context of a map to its kernels, for GPUs: one launch instead of five.

The backward pass is two launches, or plain operations where gradients are to be differentiated again.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmatconv.ops.autograd_function import Function
from mmatconv.ops.paths import TritonLaunches
from mmatconv.ops.sum_dtype import sum_dtype
from mmatconv.ops.tracing import is_observed


class Generate(Function):
    """Arguments of ``generate_kernels`` -> (B, C, K, K)."""

    @staticmethod
    def forward(
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
        with TritonLaunches('context_to_kernel', context, path) as launches:
            if launches is not None:
                return launches.generate(context, weight, bias, difference, sigmoid, size, channels_last, dtype)
        kernels = F.linear(F.gelu(context.to(sum_dtype(context))), weight.to(sum_dtype(context)))
        if bias is not None:
            kernels = kernels + bias
        factor = -difference.sigmoid() if sigmoid else difference
        kernels = kernels + factor[:, None] * kernels.mean(2, keepdim=True)
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        return kernels.unflatten(2, (size, size)).to(dtype, memory_format=memory_format)

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:4])
        ctx.sigmoid, ctx.path = inputs[4], inputs[8]

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        context, weight, bias, difference = ctx.saved_tensors
        for_context, for_weight, for_bias, for_difference = ctx.needs_input_grad[:4]
        if not (torch.is_grad_enabled() or is_observed()):
            with TritonLaunches('context_to_kernel', context, ctx.path) as launches:
                if launches is not None:
                    gradients = launches.generate_gradients(grad, context, weight, bias, difference, ctx.sigmoid)
                    wanted = zip(gradients, ctx.needs_input_grad)
                    return *(gradient if needed else None for gradient, needed in wanted), *(None,) * 5
        wide, positions = sum_dtype(context), context.shape[2]
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
        return grad_context, grad_weight, grad_bias, grad_difference, *(None,) * 5
