"""The linear path from noise to data, the loss along it, and its integration: SiT's default (arXiv 2401.08740).

At time t from 0 to 1, noise z and data x mix to ``(1 - t) * z + t * x``, whose velocity is ``x - z`` at every t. A
network that predicts the velocity generates data by following it from noise at t = 0 to t = 1.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]


def velocity_loss(network: Callable[..., Tensor], data: Tensor, labels: Tensor | None) -> Tensor:
    """Mean squared error of the predicted velocity, at one time for each sample, drawn evenly from 0 to 1.

    Args:
        network: Called with the mixture (B, C, H, W), the times (B,) and the labels.
        data: (B, C, H, W), about unit variance.
        labels: (B,) or None.

    Returns:
        A scalar, in single precision or more.
    """
    noise = torch.randn_like(data)
    t = torch.rand(len(data), device=data.device, dtype=torch.promote_types(data.dtype, torch.float32))
    share = t.to(data.dtype)[:, None, None, None]
    predicted = network(noise + share * (data - noise), t, labels)
    return (predicted.to(t.dtype) - (data - noise)).square().mean()


def guided(network: Callable[..., Tensor], labels: Tensor, no_class: int, scale: float) -> Velocity:
    """Classifier-free guidance: ``v0 + scale * (v - v0)``, v0 being the velocity for 'no class'.

    Args:
        network: Called with (2B, C, H, W), times (2B,) and labels (2B,).
        labels: (B,).
        no_class: The label that stands for no class.
        scale: 1 is none.
    """
    both = torch.cat([labels, torch.full_like(labels, no_class)])

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        with_class, without = network(x.repeat(2, 1, 1, 1), t.repeat(2), both).chunk(2)
        return without + scale * (with_class - without)

    return velocity


def euler(velocity: Velocity, x: Tensor, t: Tensor, step: float) -> Tensor:
    """A step of first order, one velocity."""
    return x + step * velocity(x, t)


def heun(velocity: Velocity, x: Tensor, t: Tensor, step: float) -> Tensor:
    """A step of second order, two velocities."""
    first = velocity(x, t)
    return x + step / 2 * (first + velocity(x + step * first, t + step))


SOLVERS = {'euler': euler, 'heun': heun}


def integrate(
    velocity: Velocity, noise: Tensor, steps: int, solver: str = 'heun', progress: Callable[[], None] | None = None
) -> Tensor:
    """Follow a velocity from noise at t = 0 to data at t = 1.

    Args:
        velocity: Called with (B, C, H, W) and times (B,).
        noise: (B, C, H, W), unit normal.
        steps: How many, of equal length.
        solver: 'euler' or 'heun'. Default: 'heun'.
        progress: Called after each step. Default: None.

    Returns:
        (B, C, H, W).
    """
    x = noise
    for i in range(steps):
        t = torch.full((len(x),), i / steps, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
        x = SOLVERS[solver](velocity, x, t, 1 / steps)
        if progress is not None:
            progress()
    return x


def seeded_noise(count: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """(count, *shape), unit normal; the i-th of a generator's samples is the same however many are drawn together."""
    return torch.stack([torch.randn(shape, generator=generator) for _ in range(count)])
