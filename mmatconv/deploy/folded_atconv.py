"""ATConv for inference, with differential kernel modulation (DKM) folded into the kernel generator."""

import torch
from torch import Tensor, nn

from mmatconv.layers.atconv import ATConv


class FoldedATConv(ATConv):
    """What an ATConv computes, with the constants of DKM worked out once.

    The mean over the positions of a generated kernel is a linear function of the context like the positions
    themselves: ``kernel_gen`` yields it as one more output, the mean of its rows. ``difference`` holds
    ``-sigmoid(difference_control)``. So one generator still serves all channels, where a generator with DKM inside
    would be another matrix for each channel.

    Args:
        layer: An ATConv in evaluation mode. Its projections are taken over, not copied.
    """

    def __init__(self, layer: ATConv) -> None:
        # Nothing of what the parent makes is kept: no memory, and no random numbers drawn.
        with torch.device('meta'):
            super().__init__(layer.dim, layer.kernel_size, context_pool=layer.context_pool)
        for name, child in layer.named_children():
            setattr(self, name, child)
        self.kernel_gen = _with_mean_output(layer.kernel_gen)
        control = layer.difference_control
        self.register_parameter('difference_control', None)
        self.register_buffer('difference', -torch.sigmoid(control.detach())[:, None])
        self.train(layer.training)

    def modulate(self, kernels: Tensor) -> Tensor:
        """(B, C, K * K + 1), the positions and their mean, -> (B, C, K * K)."""
        kernels, mean = kernels[..., :-1], kernels[..., -1:]
        if kernels.dtype != self.difference.dtype:
            # Under autocast DKM runs in the dtype of its parameters, as in ATConv.
            kernels, mean = kernels.to(self.difference.dtype), mean.to(self.difference.dtype)
        return torch.addcmul(kernels, mean, self.difference)

    def generator_arguments(self) -> tuple[Tensor, Tensor | None, Tensor, bool] | None:
        """As ATConv's, without the last output of ``kernel_gen``: the fused kernel takes the mean itself."""
        if type(self).modulate is not FoldedATConv.modulate or not self._generator_is_plain():
            return None
        weight, bias = self.kernel_gen.weight[:-1], self.kernel_gen.bias
        return weight, None if bias is None else bias[:-1], self.difference.flatten(), False


def _with_mean_output(layer: nn.Linear) -> nn.Linear:
    """The layer with the mean of its outputs as one more output."""
    weight, bias = layer.weight.detach(), layer.bias
    with torch.device('meta'):
        extended = nn.Linear(layer.in_features, layer.out_features + 1, bias=bias is not None)
    extended.weight = nn.Parameter(torch.cat([weight, weight.mean(0, keepdim=True)]), layer.weight.requires_grad)
    if bias is not None:
        mean = bias.detach().mean(0, keepdim=True)
        extended.bias = nn.Parameter(torch.cat([bias.detach(), mean]), bias.requires_grad)
    return extended
