"""A model with its own kernels and with their mean, on layers whose answer is known."""

import pytest
import torch
from torch import nn

from mmatconv import UserError
from mmatconv.analysis.mechanisms.generated_kernels import changed_kernels
from mmatconv.analysis.mechanisms.static_kernels import KernelStatistics, compare_kernels
from mmatconv.layers import ATConv, initialize


def test_statistics_are_those_of_all_kernels_at_once():
    torch.manual_seed(0)
    kernels = torch.randn(7, 4, 3, 3) + torch.randn(4, 3, 3)
    statistics = KernelStatistics()
    for batch in kernels.split([2, 2, 3]):
        statistics.add(batch)
    kernels = kernels.double()
    mean = kernels.mean(0)
    torch.testing.assert_close(statistics.mean, mean)
    norm = kernels.square().sum((2, 3)).mean().sqrt()
    over_images = (kernels - mean).square().sum((2, 3)).mean().sqrt()
    over_channels = (mean - mean.mean(0)).square().sum((1, 2)).mean().sqrt()
    # Sums in float64.
    assert list(statistics.spread()) == pytest.approx(
        [float(norm), float(over_images / norm), float(over_channels / norm)], rel=1e-12
    )


def test_equal_kernels_have_no_spread():
    statistics = KernelStatistics()
    for _ in range(3):
        statistics.add(torch.full((1, 2, 3, 3), 0.1))
    norm, over_images, over_channels = statistics.spread()
    assert norm == pytest.approx(0.3) and over_images == over_channels == 0


@pytest.mark.parametrize('shapes', [0, 1, 2, 5])
def test_kernels_that_are_mixtures_of_as_many_shapes(shapes):
    """Orthogonal ones in equal shares, in a basis in which no position stands for one of them."""
    basis = torch.linalg.qr(torch.randn(9, 9, generator=torch.Generator().manual_seed(0)).double())[0]
    channels = 20
    kernels = torch.zeros(channels, 9, dtype=torch.float64)
    for channel in range(channels if shapes else 0):
        kernels[channel] = basis[channel % shapes]
    statistics = KernelStatistics()
    statistics.add(kernels.reshape(1, channels, 3, 3))
    assert statistics.shapes() == pytest.approx(shapes, rel=1e-9)


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last], ids=['nchw', 'nhwc'])
def test_the_second_evaluation_convolves_with_the_mean(memory_format):
    torch.manual_seed(0)
    model = nn.Sequential(ATConv(4), nn.GELU(), ATConv(4))
    initialize(model, 'live')
    x = torch.randn(5, 4, 6, 7).to(memory_format=memory_format)
    outputs = {}

    @torch.no_grad()
    def evaluate(what):
        outputs[what] = torch.cat([model(batch) for batch in x.split(2)])
        return dict(sum=float(outputs[what].sum()))

    own, held, rows = compare_kernels(model, evaluate)
    assert [row.name for row in rows] == ['0', '2'] and all(row.over_images > 0.01 for row in rows)
    assert own != held
    with torch.no_grad():
        # What a layer is given in the first evaluation makes its mean.
        expected = {name: model[int(name)].generate_kernels(model[: int(name)](x)).mean(0) for name in ('0', '2')}
        torch.testing.assert_close(outputs['own kernels'], model(x))  # as before, now that all is over
        with changed_kernels(model, lambda name, kernels: expected[name].expand_as(kernels).contiguous()):
            torch.testing.assert_close(outputs['mean kernels'], model(x))


def test_a_model_without_atconv_is_refused():
    with pytest.raises(UserError, match=r'^Sequential has no ATConv'):
        compare_kernels(nn.Sequential(nn.Conv2d(3, 3, 1)), lambda _: {})
