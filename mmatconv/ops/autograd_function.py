"""Autograd functions that are called as fast as torch can."""

import torch


class Function(torch.autograd.Function):
    """An autograd function without keyword arguments and defaults, which has ``setup_context``.

    torch reads the signature of ``forward`` at every call of such a function, to fill in defaults, and takes 20 us for
    it, three times of all the rest.
    """

    @classmethod
    def apply(cls, *args) -> object:
        """As torch's own; transforms of ``torch.func`` get that one."""
        if torch._C._are_functorch_transforms_active():
            return super().apply(*args)
        return super(torch.autograd.Function, cls).apply(*args)
