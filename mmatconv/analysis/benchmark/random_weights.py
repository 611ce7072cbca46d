"""Random weights that make any difference between two implementations of a model visible in its outputs."""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmatconv.layers import initialize


def randomize(model: nn.Module) -> nn.Module:
    """Random numbers of ordinary size in every parameter and buffer of one of our models, the same in every call.

    As initialised by the released code the generated kernels are nearly zero, LayerScale is 1e-6, and norms scale by
    one: an error in any of them would not be seen in the outputs.

    Returns:
        The model.
    """
    torch.manual_seed(0)
    initialize(model, 'live')
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 1.5)
    return model
