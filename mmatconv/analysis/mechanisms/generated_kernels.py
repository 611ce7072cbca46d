"""The kernels that the ATConv layers of a model generate, to be looked at or replaced while it runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from mmatconv.layers import ATConv


def atconv_layers(model: nn.Module) -> dict[str, ATConv]:
    """Every ATConv of a model by its name in it."""
    return {name: module for name, module in model.named_modules() if isinstance(module, ATConv)}


@contextmanager
def changed_kernels(model: nn.Module, change: Callable[[str, Tensor], Tensor]) -> Iterator[None]:
    """While it lasts, every ATConv convolves with ``change(name, kernels)`` in place of the kernels it generates.

    Args:
        model: With layers of :func:`atconv_layers`.
        change: Of a layer's name and its kernels (B, C, K, K); what it returns has their shape, dtype and format.
    """
    layers = atconv_layers(model)
    for name, layer in layers.items():

        def changed(*args, name: str = name, generate: Callable[..., Tensor] = layer.kernels_from) -> Tensor:
            return change(name, generate(*args))

        layer.kernels_from = changed
    try:
        yield
    finally:
        for layer in layers.values():
            del layer.kernels_from
