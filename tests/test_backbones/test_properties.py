"""What every backbone keeps to, for image sizes, options, dtypes and formats that hypothesis draws."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmatconv import ATConvPVT, ATConvSwin, AttNet

LAWS = settings(derandomize=True, deadline=None, max_examples=30, database=None)
DIMS = (6, 8, 10, 12)
BACKBONES = {
    'AttNet': lambda **options: AttNet(dict(depths=[1, 1, 1, 1], dims=DIMS, exp_rates=2), **options),
    'ATConvPVT': lambda **options: ATConvPVT(dict(depths=[1, 1, 1, 1], dims=DIMS, mlp_ratios=2), **options),
    'ATConvSwin': lambda **options: ATConvSwin(dict(depths=[1, 1, 1, 1], dims=DIMS, mlp_ratios=2), **options),
}
SIDES = st.integers(32, 75)


@st.composite
def cases(draw):
    """A backbone in evaluation mode and the options it was made with."""
    indices = tuple(sorted(draw(st.sets(st.integers(0, 3), min_size=1))))
    options = dict(
        out_indices=indices,
        out_norm=draw(st.booleans()),
        context_pool=draw(st.sampled_from(['flat', 'grid'])),
        token_mixer=dict(type='ATConv', kernel_size=draw(st.lists(st.sampled_from([3, 5, 7]), min_size=4, max_size=4))),
    )
    torch.manual_seed(draw(st.integers(0, 2**31)))
    return BACKBONES[draw(st.sampled_from(sorted(BACKBONES)))](init='live', **options).eval(), indices


@LAWS
@given(cases(), SIDES, SIDES, st.sampled_from([torch.float32, torch.float64, torch.bfloat16]), st.booleans())
def test_maps_have_the_strides_the_dtype_and_the_format(case, height, width, dtype, channels_last):
    model, indices = case
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(2, 3, height, width).to(dtype).contiguous(memory_format=memory_format)
    with torch.no_grad():
        outputs = model.to(dtype)(x)
    assert len(outputs) == len(indices)
    for i, output in zip(indices, outputs):
        # Each downsampling rounds up or down as its kind of convolution does, by less than a pixel.
        stride = 4 * 2**i
        assert output.shape[:2] == (2, DIMS[i]) and output.dtype == dtype
        for side, given_side in zip(output.shape[2:], (height, width)):
            assert given_side // stride <= side <= (given_side + stride - 1) // stride
        assert output.is_contiguous(memory_format=memory_format)
        assert output.isfinite().all()


@LAWS
@given(cases(), SIDES, SIDES)
def test_an_image_does_not_see_its_batch_mates(case, height, width):
    model, _ = case
    x = torch.randn(3, 3, height, width, dtype=torch.float64)
    with torch.no_grad():
        model = model.double()
        for together, alone in zip(model(x), model(x[1:2])):
            torch.testing.assert_close(together[1:2], alone, rtol=1e-9, atol=1e-9)
