"""With mask_padding a batch gives each image what the image alone, not padded at all, gives without the option."""

import copy

import pytest
import torch
import torch.nn.functional as F

from mmatconv import ATConvPVT, ATConvSwin, AttNet, UserError, deploy
from mmatconv.layers.padding_mask import PaddingMask, find_padding

ARCH = dict(depths=[1, 1, 2, 1], dims=[8, 12, 20, 24])
FORMS = {
    'AttNet': (AttNet, {}),
    'AttNet-norms-grid-K7': (
        AttNet,
        dict(out_norm=True, context_pool='grid', token_mixer=dict(type='ATConv', kernel_size=[7, 5, 3, 3])),
    ),
    'AttNet-classification': (AttNet, dict(gap_before_final_norm=True)),
    'AttNet-recomputed': (AttNet, dict(with_cp=True)),
    'ATConvPVT': (ATConvPVT, {}),
    'ATConvPVT-classification': (ATConvPVT, dict(gap_before_final_norm=True)),
    'ATConvPVT-depthwise': (ATConvPVT, dict(token_mixer=dict(type='DepthwiseConv', kernel_size=5))),
    'ATConvPVT-generator-only': (ATConvPVT, dict(token_mixer=dict(type='ATConvStep', step='kernel_generator'))),
    'ATConvPVT-static-and-generated': (ATConvPVT, dict(token_mixer=dict(type='ATConvKernels'))),
    'ATConvPVT-projected-depthwise': (ATConvPVT, dict(token_mixer=dict(type='ProjectedDepthwiseConv'))),
    'ATConvSwin': (ATConvSwin, {}),
    'ATConvSwin-linear': (ATConvSwin, dict(merging='linear', token_mixer=dict(type='Conv'))),
}
SIZES = ((64, 96), (50, 70), (96, 33), (41, 96))
# The bounds; sums in another order differ by about the precision times a hundred operations.
TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-10}


def build(form: str, dtype: torch.dtype = torch.float64, **options):
    torch.manual_seed(0)
    kind, own = FORMS[form]
    return kind(ARCH, init='live', drop_path_rate=0.0, **own, **options).to(dtype).eval()


def images(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """A batch padded with zeros as the preprocessors pad, and its images alone, (1, 3, h, w)."""
    generator = torch.Generator().manual_seed(1)
    alone = [torch.randn(1, 3, *size, generator=generator, dtype=torch.float64).to(dtype) for size in SIZES]
    return torch.cat([F.pad(image, (0, 96 - image.shape[3], 0, 96 - image.shape[2])) for image in alone]), alone


def valid(output: torch.Tensor, i: int, alone: torch.Tensor) -> torch.Tensor:
    """Image ``i`` of an output of the batch, cut to what there is of it alone."""
    return output[i : i + 1, :, : alone.shape[2], : alone.shape[3]] if alone.dim() == 4 else output[i : i + 1]


def relative(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float((actual - expected).abs().max() / expected.abs().max())


@pytest.fixture(params=['host', 'device'])
def branch(request, monkeypatch):
    """Values are computed as on a CPU, and as on a GPU, which is never asked for one."""
    if request.param == 'device':
        monkeypatch.setattr('mmatconv.layers.padding_mask._is_on_host', lambda x: False)


@pytest.mark.parametrize('dtype', TOLERANCES)
@pytest.mark.parametrize('grad', [False, True])
@pytest.mark.parametrize('form', FORMS)
def test_batch_equals_each_image_alone(form, grad, dtype):
    masked, plain = build(form, dtype, mask_padding=True), build(form, dtype)
    batch, alone = images(dtype)
    with torch.set_grad_enabled(grad):
        outputs, unmasked = masked(batch), plain(batch)
        for i, image in enumerate(alone):
            padded_alone = masked(F.pad(image, (0, -image.shape[3] % 32, 0, -image.shape[2] % 32)))
            for output, padded, expected in zip(outputs, padded_alone, plain(image)):
                assert relative(valid(output, i, expected), expected) < TOLERANCES[dtype]
                assert relative(valid(padded, 0, expected), expected) < TOLERANCES[dtype]
                if output.dim() == 4:
                    height, width = expected.shape[2:]
                    assert output[i, :, height:].eq(0).all() and output[i, :, :, width:].eq(0).all()
    # What the option is for: without it the last image, padded most, differs.
    assert relative(valid(unmasked[-1].detach(), 3, expected), expected) > 1e-3


@pytest.mark.parametrize(
    'form', ['AttNet', 'AttNet-norms-grid-K7', 'ATConvPVT', 'ATConvSwin-linear', 'ATConvPVT-classification']
)
def test_gradients_of_a_batch_are_those_of_its_images(form, branch):
    masked, plain = build(form, mask_padding=True), build(form)
    batch, alone = images()
    weights = {}

    def loss(outputs, reference, i):
        total = 0
        for stage, (output, expected) in enumerate(zip(outputs, reference)):
            generator = torch.Generator().manual_seed(10 * i + stage)
            weight = weights.setdefault((i, stage), torch.randn(expected.shape, generator=generator).to(expected))
            total = total + (valid(output, i, expected) * weight).sum()
        return total

    references = [plain(image) for image in alone]
    outputs = masked(batch.requires_grad_())
    sum(loss(outputs, reference, i) for i, reference in enumerate(references)).backward()
    sum((r * weights[i, s]).sum() for i, reference in enumerate(references) for s, r in enumerate(reference)).backward()
    for (name, parameter), other in zip(masked.named_parameters(), plain.parameters()):
        assert relative(parameter.grad, other.grad) < 1e-10, name
    for i, (height, width) in enumerate(SIZES):
        assert batch.grad[i, :, :height, :width].abs().amin(0).gt(0).any()


def test_without_padding_nothing_changes():
    masked, plain = build('AttNet', torch.float32, mask_padding=True), build('AttNet', torch.float32)
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        for output, expected in zip(masked(x), plain(x)):
            assert output.equal(expected)


def test_under_autocast():
    # bfloat16 has 8 bits: each of some twenty products in a row rounds by up to 2**-9 of its largest value.
    masked = build('AttNet', torch.float32, mask_padding=True)
    batch, alone = images(torch.float32)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        outputs = masked(batch)
        for i, image in enumerate(alone):
            for output, expected in zip(outputs, masked(image)):
                assert relative(valid(output, i, expected).float(), expected.float()) < 0.05
                assert output.isfinite().all()


@pytest.mark.newer_torch
@pytest.mark.parametrize('form', ['AttNet', 'ATConvSwin-linear'])
def test_compiled_with_one_graph_for_padded_and_whole_images(form):
    torch._dynamo.reset()
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph

    masked = build(form, mask_padding=True, out_indices=[0, 1])
    compiled = torch.compile(masked, backend=count, dynamic=True, fullgraph=True)
    batch, alone = images()
    with torch.no_grad():
        outputs = compiled(batch)
        first = len(graphs)
        compiled(torch.randn_like(batch)), compiled(batch.flip(0))
        for i, image in enumerate(alone):
            for output, expected in zip(outputs, masked(image)):
                assert relative(valid(output, i, expected), expected) < 1e-10
    assert len(graphs) == first
    torch._dynamo.reset()


def test_folded_for_inference():
    masked = build('AttNet', mask_padding=True)
    batch, _ = images()
    with torch.no_grad():
        for output, expected in zip(deploy.fold(masked)(batch), masked(batch)):
            assert relative(output, expected) < 1e-12


def test_copies_mask_as_well():
    masked = build('AttNet', mask_padding=True)
    batch, _ = images()
    with torch.no_grad():
        assert all(a.equal(b) for a, b in zip(copy.deepcopy(masked)(batch), masked(batch)))


def test_mixers_that_see_everything_are_refused():
    with pytest.raises(UserError, match='mask_padding needs token mixers that leave padding out, and HydraAttention'):
        AttNet(ARCH, token_mixer=dict(type='HydraAttention'), mask_padding=True)


class TestPaddingMask:
    def test_only_what_lies_behind_the_last_pixel_is_padding(self):
        x = torch.ones(4, 3, 5, 7)
        x[0, :, 3:] = 0
        x[1, :, :, 4:] = 0
        x[1, :, 1:2] = 0  # a black row of the picture
        x[2, :2, :, 6] = 0  # one channel left
        x[3] = 0  # nothing to see: all of it counts
        assert find_padding(x).side_lengths == [[3, 7], [5, 4], [5, 7], [5, 7]]
        assert find_padding(x[2:]) is None

    def test_shrinking_and_other_resolutions(self):
        padding_mask = PaddingMask(torch.tensor([[41, 96]], dtype=torch.int32), (96, 100))
        quarter = padding_mask.downsample(4)
        assert (quarter.side_lengths, quarter.shape, quarter.sizes.dtype) == ([[11, 24]], (24, 25), torch.int32)
        assert padding_mask.at((12, 13)).sizes.tolist() == [[6, 12]]
        assert padding_mask.at((24, 25)) is quarter, 'what was derived from the sizes is derived again'
        assert padding_mask.at((96, 100)) is padding_mask and padding_mask.at((14, 14)) is None

    def test_extending_repeats_the_last_valid_pixels(self, branch):
        x = torch.arange(24.0).view(2, 1, 3, 4)
        padding_mask = PaddingMask(torch.tensor([[2, 2], [3, 4]]), (3, 4))
        expected = [[0, 1, 1, 1], [4, 5, 5, 5], [4, 5, 5, 5]]
        for memory_format in (torch.contiguous_format, torch.channels_last):
            extended = padding_mask.replicate_edge(x.expand(-1, 3, -1, -1).contiguous(memory_format=memory_format))
            assert extended[0, 2].tolist() == expected and extended[1, 2].equal(x[1, 0])
            assert extended.is_contiguous(memory_format=memory_format)

    def test_gradients_of_extending(self, branch):
        padding_mask = PaddingMask(torch.tensor([[2, 3], [3, 1]]), (3, 4))
        x = torch.randn(2, 2, 3, 4, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(padding_mask.replicate_edge, x)

    @pytest.mark.parametrize('inplace', [False, True])
    def test_zeros_have_no_gradient_of_any_order(self, inplace, branch):
        padding_mask = PaddingMask(torch.tensor([[2, 3], [3, 1]]), (3, 4))
        x = torch.randn(2, 2, 3, 4, dtype=torch.float64, requires_grad=True)

        def function(x):
            return padding_mask.zero_padding(x * 2, inplace).pow(3)

        assert torch.autograd.gradcheck(function, x) and torch.autograd.gradgradcheck(function, x)
        kept = x.detach().clone()
        padding_mask.zero_padding(x)
        assert x.detach().equal(kept)
        assert function(x)[0, :, 2:].eq(0).all() and function(x)[1, :, :, 1:].eq(0).all()
