"""ATConv's laws, for shapes, kernel sizes, options and formats that hypothesis draws."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmatconv import ATConv
from mmatconv.ops import reference

LAWS = settings(derandomize=True, deadline=None, max_examples=40, database=None)
FORMATS = st.sampled_from([torch.contiguous_format, torch.channels_last])


@st.composite
def cases(draw):
    """A layer in float64 whose kernels matter, and an input."""
    size = draw(st.sampled_from([1, 3, 5, 7]))
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    channels, batch = draw(st.integers(1, 9)), draw(st.integers(1, 4))
    torch.manual_seed(draw(st.integers(0, 2**31)))
    options = dict(context_pool=draw(st.sampled_from(['flat', 'grid'])), bias=draw(st.booleans()))
    layer = ATConv(channels, size, **options).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return layer, torch.randn(batch, channels, height, width, dtype=torch.float64)


@LAWS
@given(cases(), FORMATS)
def test_each_sample_is_as_alone_and_in_any_order(case, memory_format):
    layer, x = case
    output = layer(x.contiguous(memory_format=memory_format))
    assert output.shape == x.shape and output.dtype == x.dtype
    alone = torch.cat([layer(sample[None]) for sample in x])
    torch.testing.assert_close(output, alone, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(layer(x.flip(0)), output.flip(0), rtol=1e-11, atol=1e-11)


@LAWS
@given(cases())
def test_it_is_the_operator_with_the_kernels_it_generates(case):
    layer, x = case
    kernels = layer.generate_kernels(x)
    assert kernels.shape == (*x.shape[:2], layer.kernel_size, layer.kernel_size)
    expected = layer.proj(reference(layer.x_proj(x), kernels))
    torch.testing.assert_close(layer(x), expected, rtol=1e-11, atol=1e-11)


@LAWS
@given(cases(), st.sampled_from([torch.float32, torch.bfloat16]))
def test_it_runs_in_the_dtype_of_its_weights(case, dtype):
    layer, x = case
    exact = layer(x)
    output = layer.to(dtype)(x.to(dtype))
    assert output.dtype == dtype and output.shape == x.shape
    # Four projections, a GELU and a convolution of unit-sized values; bfloat16 rounds after each.
    assert (output.double() - exact).norm() <= 40 * torch.finfo(dtype).eps * (exact.norm() + x.norm())
