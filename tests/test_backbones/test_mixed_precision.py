"""Under autocast: finite with extreme inputs, kernel statistics and residual stream in float32, errors as released."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmatconv import AttNet
from mmatconv.analysis.benchmark.released_baseline import ReleasedBackbone
from mmatconv.layers import ATConv, Block, ConvGLU, context_pool, norms

pytestmark = pytest.mark.newer_torch

DTYPES = {'bfloat16': torch.bfloat16, 'float16': torch.float16}
IMAGES = {
    'random': lambda shape: torch.randn(shape),
    'thousands': lambda shape: torch.randn(shape) * 1e3,
    'ten thousands': lambda shape: torch.randn(shape) * 1e4,
    'constant': lambda shape: torch.full(shape, 1e4),
    'zeros': lambda shape: torch.zeros(shape),
    'one bright pixel': lambda shape: torch.zeros(shape).index_put_(
        (torch.tensor(0), torch.tensor(0), torch.tensor(5), torch.tensor(5)), torch.tensor(1e4)
    ),
}
# torch.amp.GradScaler begins with the first and halves it until gradients are finite. Images of one colour cost most:
# a norm multiplies its gradient by one over its small deviation.
FIRST_SCALE, LEAST_SCALE = 2.0**16, 2.0**4
# In a batch that is black as a whole, both batch norms of the stem multiply by 1 / sqrt(1e-5) = 316: the true gradient
# to the first convolution's map is 6e5 (float64), which float16 holds only below a scale of 0.1.
LEAST_SCALE_BLACK = 2.0**-5


# The structure of T4 with 16 to 96 channels and a fifth of its depth; and T4 itself.
NARROW = dict(depths=[1, 2, 3, 1], dims=[16, 24, 48, 96], exp_rates=2)


@pytest.fixture(params=['narrow', pytest.param('T4', marks=pytest.mark.soak)])
def model(request):
    torch.manual_seed(0)
    arch = NARROW if request.param == 'narrow' else request.param
    model = Classifier(AttNet(arch, out_indices=(3,), gap_before_final_norm=True, init='live'))
    for name, parameter in model.named_parameters():
        if name.endswith('bias'):
            # Without, a black image is zero in every layer, where the gradient of a norm is a thousand for each.
            nn.init.normal_(parameter, std=0.1)
    return model


class Classifier(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.norm.normalized_shape[0], 1000)

    def forward(self, x):
        return self.head(self.backbone(x)[-1].flatten(1))


def loss_of(model, images, dtype):
    with torch.autocast('cpu', dtype=dtype):
        logits = model(images)
    return F.cross_entropy(logits.float(), torch.zeros(len(images), dtype=torch.long))


def infinite_gradients(model):
    return {name for name, p in model.named_parameters() if p.grad is not None and not torch.isfinite(p.grad).all()}


@pytest.mark.parametrize(
    # Twice 1e4 and its tail, summed by the first convolution, is more than float16 holds.
    ('images', 'weights'),
    [(name, 1) for name in IMAGES] + [(name, 2) for name in IMAGES if name != 'ten thousands'],
)
@pytest.mark.parametrize('dtype', DTYPES)
def test_no_nan_and_no_infinity(model, dtype, images, weights):
    """Forward always; backward at the scale that torch's GradScaler settles on, which is 1 for bfloat16."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(weights)
    seen = []
    for name, module in model.named_modules():
        module.register_forward_hook(lambda module, args, out, name=name: seen.append((name, out)))
    least = LEAST_SCALE_BLACK if images == 'zeros' else LEAST_SCALE
    images = IMAGES[images]((2, 3, 64, 64))
    scale = FIRST_SCALE if dtype == 'float16' else 1.0
    while True:
        seen.clear()
        model.zero_grad()
        loss = loss_of(model, images, DTYPES[dtype])
        broken = [name for name, out in seen if isinstance(out, torch.Tensor) and not torch.isfinite(out).all()]
        assert not broken
        assert len(seen) > 50
        (loss * scale).backward()
        if not infinite_gradients(model):
            break
        scale /= 2
        assert scale >= least


@pytest.mark.parametrize('format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('pool', ['flat', 'grid'])
@pytest.mark.parametrize('dtype', DTYPES)
def test_kernel_statistics_are_float32(monkeypatch, dtype, pool, format):
    model = AttNet(dict(depths=[1, 1, 1, 1], dims=[8, 12, 20, 24], exp_rates=2), init='live', context_pool=pool)
    pooled = []
    for name, original in list(context_pool.CONTEXT_POOLS.items()):

        def recording(*args, original=original):
            pooled.append(original(*args))
            return pooled[-1]

        monkeypatch.setitem(context_pool.CONTEXT_POOLS, name, recording)
    made, projected = [], []
    for module in model.modules():
        if hasattr(module, 'modulate'):
            original = module.modulate

            def modulate(*args, original=original):
                made.append(original(*args))
                return made[-1]

            monkeypatch.setattr(module, 'modulate', modulate)
            module.kernel_proj.register_forward_hook(lambda module, args, out: projected.append(out))
    with torch.autocast('cpu', dtype=DTYPES[dtype]):
        outputs = model(torch.randn(2, 3, 64, 64).to(memory_format=format))
    assert len(pooled) == len(made) == len(projected) == 4
    assert {tensor.dtype for tensor in pooled + made + projected} == {torch.float32}
    assert all(torch.isfinite(output).all() for output in outputs)


@pytest.mark.parametrize('dtype', DTYPES)
def test_rms_norm_squares_in_float32(dtype):
    """Squares of 300 are beyond float16, and bfloat16 would lose the mean of many channels."""
    x = torch.full((1, 4096, 1, 1), 3e4, dtype=DTYPES[dtype], requires_grad=True)
    normalised = norms.RMSNorm2d(4096)(x)
    assert torch.equal(normalised, torch.ones_like(normalised))
    normalised.sum().backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize('format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('dtype', DTYPES)
def test_means_over_large_maps_do_not_overflow(dtype, format):
    """4096 values of 1000 sum to 4e6."""
    x = torch.full((1, 8, 64, 64), 1000.0, dtype=DTYPES[dtype]).to(memory_format=format)
    for grad in (False, True):
        for pool in context_pool.CONTEXT_POOLS.values():
            context = pool(x.clone(memory_format=torch.preserve_format).requires_grad_(grad), 3)
            assert torch.equal(context, torch.full_like(context, 1000.0))


@pytest.mark.parametrize('dtype', DTYPES)
def test_padding_changes_nothing_in_mixed_precision(dtype):
    """Each image of a padded batch as alone, to a few steps of the coarser number format."""
    torch.manual_seed(0)
    model = AttNet(dict(depths=[1, 1, 1, 1], dims=[8, 12, 20, 24], exp_rates=2), init='live', mask_padding=True).eval()
    sizes = [(64, 64), (48, 60), (33, 50)]
    images = [torch.randn(3, *size) for size in sizes]
    batch = torch.stack([F.pad(image, (0, 64 - image.shape[2], 0, 64 - image.shape[1])) for image in images])
    with torch.autocast('cpu', dtype=DTYPES[dtype]):
        together = model(batch)
        alone = [model(image[None]) for image in images]
    step = torch.finfo(DTYPES[dtype]).eps
    for index, outputs in enumerate(alone):
        for one, all_of_them in zip(outputs, together):
            height, width = one.shape[2:]
            part = all_of_them[index, :, :height, :width].float()
            assert (part - one[0].float()).abs().max() <= 4 * step * one.float().abs().max()


@pytest.mark.parametrize('layer_scale', [True, False])
@pytest.mark.parametrize('dtype', DTYPES)
def test_error_is_at_most_that_of_the_released_arithmetic(dtype, layer_scale):
    """All four maps against float64, and their dtype: where a LayerScale multiplies, the released stream is float32."""
    torch.manual_seed(0)
    arch = dict(depths=[1, 1, 3, 1], dims=[16, 24, 48, 64], exp_rates=2, layer_scale=layer_scale)
    model = AttNet(arch, init='live').eval()
    for name, parameter in model.named_parameters():
        if name.endswith('gamma'):
            nn.init.constant_(parameter, 0.5)
    released = ReleasedBackbone(model)
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        exact = copy.deepcopy(model).double()(x.double())
        with torch.autocast('cpu', DTYPES[dtype]):
            results = model(x), released(x)
    stream = torch.float32 if layer_scale else DTYPES[dtype]
    for ours, theirs, true in zip(*results, exact):
        assert ours.dtype == theirs.dtype == stream
        ours, theirs = ((output.double() - true).norm() for output in (ours, theirs))
        assert ours <= theirs


@pytest.mark.parametrize('drop_path', [0.0, 0.5])
@pytest.mark.parametrize('dtype', DTYPES)
def test_a_layer_scale_of_a_millionth_moves_the_stream(dtype, drop_path):
    torch.manual_seed(0)
    block = Block(8, ATConv(8), ConvGLU(8, 16), drop_path=drop_path, layer_scale=True)
    x = torch.randn(4, 8, 9, 7).contiguous(memory_format=torch.channels_last)
    outputs = []
    for enabled in (False, True):
        torch.manual_seed(1)
        with torch.autocast('cpu', DTYPES[dtype], enabled=enabled):
            outputs.append(block(x))
    exact, output = outputs
    assert output.dtype == torch.float32
    assert (exact - x).abs().max() < 1e-5
    # The stream is about 1, a step of float32 1.2e-7 there, what is added about 1e-6.
    assert (output - exact).norm() < 0.1 * (exact - x).norm()
    gradients = torch.autograd.grad(output.sum(), list(block.parameters()))
    assert all(gradient.dtype == torch.float32 and gradient.abs().max() > 0 for gradient in gradients)
