"""Second derivatives for functions whose gradients are written by hand."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def differentiable_gradients(
    function: Callable[..., Tensor | Sequence[Tensor]],
    inputs: Sequence[Tensor | None],
    needed: Sequence[bool],
    grad: Tensor | Sequence[Tensor],
) -> tuple[Tensor | None, ...]:
    """The gradients of ``function(*inputs)`` in operations that autograd can differentiate again.

    For the backward pass of an autograd function under ``create_graph``, where its own code would be a constant.

    Args:
        function: The plain expression.
        inputs: Its arguments.
        needed: Which of them need a gradient.
        grad: Gradient of the output, or of each output.

    Returns:
        A gradient or None for each input.
    """
    with torch.enable_grad():
        output = function(*inputs)
    chosen = [entry for entry, wanted in zip(inputs, needed) if wanted]
    gradients = iter(torch.autograd.grad(output, chosen, grad, create_graph=True))
    return tuple(next(gradients) if wanted else None for wanted in needed)
