"""The linear path, its loss, and its integration, against cases with a known answer."""

import math

import pytest
import torch

from mmatconv.generation.flow import SOLVERS, guided, integrate, seeded_noise, velocity_loss


def test_the_loss_is_that_of_the_velocity_on_the_straight_line():
    torch.manual_seed(0)
    data, labels = torch.randn(4, 2, 3, 3, dtype=torch.float64), torch.arange(4)
    seen = {}

    def network(x, t, labels):
        seen.update(x=x, t=t, labels=labels)
        # What is left on the way from here, at the speed that reaches the data in time: the velocity itself.
        return (data - x) / (1 - t)[:, None, None, None]

    # Float64, divided by a time left of at least 1e-4 or so.
    assert velocity_loss(network, data, labels) < 1e-16
    assert seen['labels'] is labels and seen['t'].shape == (4,) and len(set(seen['t'].tolist())) == 4
    # A network that predicts nothing has the mean square of data less noise: 1 + 1 for unit normals, +-0.1 at 16000.
    loss = velocity_loss(lambda x, t, labels: torch.zeros_like(x), torch.randn(16, 10, 10, 10), None)
    assert abs(float(loss) - 2) < 0.1 and loss.dtype == torch.float32


@pytest.mark.parametrize('solver, order', [('euler', 1), ('heun', 2)])
def test_solvers_have_their_order(solver, order):
    """On dx/dt = x * cos(t), whose solution grows by exp(sin(1)), half the step means an error 2 ** order less."""
    x = torch.full((1, 1, 1, 1), 1.5, dtype=torch.float64)
    exact = 1.5 * math.exp(math.sin(1))
    few, many = (
        abs(float(integrate(lambda x, t: x * t.cos()[:, None, None, None], x, steps, solver)) - exact)
        for steps in (64, 128)
    )
    # Terms of higher order are a few percent at these steps.
    assert math.log2(few / many) == pytest.approx(order, abs=0.1)
    assert set(SOLVERS) == {'euler', 'heun'}


def test_heun_never_looks_behind_the_end():
    times = []

    def velocity(x, t):
        times.append(float(t[0]))
        return x

    integrate(velocity, torch.ones(1, 1, 1, 1), 4, 'heun', lambda: times.append('step'))
    assert times == [0, 0.25, 'step', 0.25, 0.5, 'step', 0.5, 0.75, 'step', 0.75, 1, 'step']


def test_guidance():
    """Velocities that are their labels: 7 for no class."""

    def network(x, t, labels):
        assert len(x) == len(t) == len(labels)
        return x + t[:, None, None, None] + labels[:, None, None, None]

    x, t = torch.randn(2, 1, 2, 2), torch.tensor([0.25, 0.5])
    labels = torch.tensor([1, 3])
    plain = network(x, t, labels)
    torch.testing.assert_close(guided(network, labels, 7, 1.0)(x, t), plain)
    expected = x + t[:, None, None, None] + (7 + 3 * (labels - 7))[:, None, None, None]
    torch.testing.assert_close(guided(network, labels, 7, 3.0)(x, t), expected)


def test_noise_does_not_depend_on_the_batch():
    at_once = seeded_noise(5, (4, 6, 6), torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    assert torch.equal(at_once, torch.cat([seeded_noise(n, (4, 6, 6), generator) for n in (2, 3)]))
    assert not torch.equal(at_once, seeded_noise(5, (4, 6, 6), torch.Generator().manual_seed(4)))
