"""The operator's laws, for shapes, kernel sizes, dtypes and formats that hypothesis draws."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmatconv.ops import dynamic_depthwise_conv2d, reference

LAWS = settings(derandomize=True, deadline=None, max_examples=60, database=None)
SIDES = st.integers(1, 11)


@st.composite
def cases(draw, dtypes=(torch.float64,)):
    """An input, a kernel, and a generator for more of them."""
    batch, channels = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    height, width, size = draw(SIDES), draw(SIDES), draw(st.sampled_from([1, 3, 5, 7, 9]))
    dtype = draw(st.sampled_from(dtypes))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    x = torch.randn(batch, channels, height, width, generator=generator, dtype=torch.float64).to(dtype)
    kernel = torch.randn(batch, channels, size, size, generator=generator, dtype=torch.float64).to(dtype)
    if draw(st.booleans()):
        x = x.contiguous(memory_format=torch.channels_last)
    return x, kernel, generator


@LAWS
@given(cases(dtypes=(torch.float64, torch.float32, torch.bfloat16, torch.float16)))
def test_it_is_the_reference_in_float64_up_to_its_rounding(case):
    x, kernel, _ = case
    output = dynamic_depthwise_conv2d(x, kernel)
    exact = reference(x.double(), kernel.double())
    assert output.shape == x.shape and output.dtype == x.dtype
    # Against the sum of magnitudes: that of the result itself may be near zero.
    scale = reference(x.double().abs(), kernel.double().abs())
    assert ((output.double() - exact).abs() <= 8 * torch.finfo(x.dtype).eps * scale).all()


@LAWS
@given(cases(), st.floats(-4, 4), st.floats(-4, 4))
def test_it_is_linear_in_the_input_and_in_the_kernel(case, a, b):
    x, kernel, generator = case
    y = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    other = torch.randn(kernel.shape, generator=generator, dtype=x.dtype)
    apply = dynamic_depthwise_conv2d
    torch.testing.assert_close(
        apply(a * x + b * y, kernel), a * apply(x, kernel) + b * apply(y, kernel), rtol=0, atol=1e-11
    )
    torch.testing.assert_close(
        apply(x, a * kernel + b * other), a * apply(x, kernel) + b * apply(x, other), rtol=0, atol=1e-11
    )


@LAWS
@given(cases())
def test_samples_and_channels_do_not_meet(case):
    x, kernel, _ = case
    whole = dynamic_depthwise_conv2d(x, kernel)
    for b in range(x.shape[0]):
        alone = dynamic_depthwise_conv2d(x[b : b + 1], kernel[b : b + 1])
        torch.testing.assert_close(whole[b : b + 1], alone, rtol=0, atol=1e-12)
    one = dynamic_depthwise_conv2d(x[:, :1], kernel[:, :1])
    torch.testing.assert_close(whole[:, :1], one, rtol=0, atol=1e-12)


@LAWS
@given(cases())
def test_gradients_are_its_adjoints(case):
    """<f(x, k), g> = <x, grad of x> = <k, grad of k>, since f is linear in each."""
    x, kernel, generator = case
    x, kernel = x.requires_grad_(), kernel.requires_grad_()
    output = dynamic_depthwise_conv2d(x, kernel)
    g = torch.randn(output.shape, generator=generator, dtype=x.dtype)
    grad_x, grad_kernel = torch.autograd.grad((output * g).sum(), (x, kernel))
    product = (output * g).sum()
    for value, grad in ((x, grad_x), (kernel, grad_kernel)):
        torch.testing.assert_close((value * grad).sum(), product, rtol=1e-10, atol=1e-10)
