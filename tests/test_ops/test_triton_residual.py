"""The Triton kernels of residual sum and LayerNorm against torch in float64, on a GPU or in Triton's interpreter."""

import itertools
from functools import reduce

import pytest
import torch
import torch.nn.functional as F

from mmatconv.errors import UserError
from mmatconv.layers import ATConv, Block, ConvGLU
from mmatconv.layers.block import run_blocks
from mmatconv.ops.residual_norm import triton_launch
from mmatconv.ops.residual_norm.branch import Branch
from mmatconv.ops.residual_norm.function import residual_norm

pytestmark = [pytest.mark.usefixtures('forced'), *([pytest.mark.gpu] if torch.cuda.is_available() else [])]
PATH = 'triton'
EPS = 1e-6
HALVES = [torch.float16, torch.bfloat16]
UNITS = {torch.float64: 64, torch.float32: 64, torch.float16: 2, torch.bfloat16: 2}
NAMES = ('x', 'branch', 'gamma', 'weight', 'bias', 'branch scale', 'branch bias')
# One channel, fewer than a vector, not a power of two, a row for each program, several tiles for each program.
SHAPES = [(1, 1, 1, 1), (2, 5, 1, 3), (3, 40, 2, 3), (1, 1025, 1, 2), (2, 32, 9, 13)]
SHAPES += [(2, 288, 50, 84), (3, 64, 200, 336)] if torch.cuda.is_available() else []
# With LayerScale, stochastic depth, scale and bias of the branch.
CASES = list(itertools.product((True, False), repeat=4))


def make(*shape, dtype=torch.float32, device='cpu', seed=0):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)


def make_all(shape, stream, branch, device, memory_format=torch.channels_last):
    """The seven tensors with gradients, and the factor."""
    wide = torch.promote_types(stream, torch.float32) if stream != branch else stream
    batch, channels, height, width = shape
    maps = [make(*shape, dtype=dtype, device=device, seed=i) for i, dtype in enumerate((stream, branch))]
    vectors = [make(channels, dtype=wide, device=device, seed=2 + i) for i in range(4)]
    # Of the layout of nothing that a kernel may take for granted.
    scale = make(batch, 1, width, height, dtype=wide, device=device, seed=6).transpose(2, 3)
    factor = torch.arange(batch, device=device).view(-1, 1, 1, 1).remainder(3).to(wide) * 1.25
    maps = [t.contiguous(memory_format=memory_format) for t in maps]
    return [t.requires_grad_() for t in (*maps, *vectors[:3], scale, vectors[3])], factor


def chosen(tensors, scaled, dropped, with_scale, with_bias, factor):
    """The tensors and the factor without those of one of ``CASES`` that are not there."""
    x, branch, gamma, weight, bias, scale, branch_bias = tensors
    present = gamma if scaled else None, scale if with_scale else None, branch_bias if with_bias else None
    return [x, branch, present[0], weight, bias, *present[1:]], factor if dropped else None


def plain(x, branch, gamma, weight, bias, branch_scale, branch_bias, factor):
    scale = 1.0 if gamma is None else gamma[:, None, None]
    if branch is not None:
        branch = branch if branch_scale is None else branch * branch_scale
        branch = branch if branch_bias is None else branch + branch_bias[:, None, None]
    stream = x if branch is None else x + branch * (scale if factor is None else scale * factor)
    if bias is None:
        return stream, None
    pixels = stream.permute(0, 2, 3, 1)
    return stream, F.layer_norm(pixels, pixels.shape[-1:], weight, bias, EPS).permute(0, 3, 1, 2)


def check(tensors, factor, dtype, assert_exact, path=PATH):
    """Values and gradients of all that is given, of both outputs at once and of each alone."""
    x, branch, gamma, weight, bias, *rest = tensors
    norm = None if bias is None else (weight, bias, EPS)
    outputs = residual_norm(x, None if branch is None else Branch(branch, *rest), gamma, factor, norm, dtype, path)
    exact = [None if t is None else t.detach().cpu().double().requires_grad_() for t in tensors]
    expected = plain(*exact, None if factor is None else factor.cpu().double())
    assert outputs[0].dtype == reduce(torch.promote_types, (t.dtype for t in (x, branch, gamma) if t is not None))
    assert outputs[1] is None or outputs[1].dtype == dtype
    chosen = [[i for i in range(2) if outputs[i] is not None]]
    chosen += [[i] for i in chosen[0]] if len(chosen[0]) == 2 else []
    for some in chosen:
        assert all(outputs[i].is_contiguous(memory_format=torch.channels_last) for i in some)
        results, truths = [outputs[i] for i in some], [expected[i] for i in some]
        grads = [make(*x.shape, dtype=t.dtype, device=x.device, seed=7 + i) for i, t in enumerate(results)]
        wanted = [i for i in range(len(NAMES)) if tensors[i] is not None]
        arguments = dict(retain_graph=True, allow_unused=True)
        gradients = torch.autograd.grad(results, [tensors[i] for i in wanted], grads, **arguments)
        exact_grads = [grad.cpu().double() for grad in grads]
        truth = torch.autograd.grad(truths, [exact[i] for i in wanted], exact_grads, **arguments)
        for name, gradient, true in zip([NAMES[i] for i in wanted], gradients, truth):
            assert (gradient is None) == (true is None), name
        names = ['output'] * len(results) + [NAMES[i] for i in wanted]
        results, truths = [*results, *gradients], [*(t.detach() for t in truths), *truth]
        # What is summed in float32 comes from maps that half precision rounded.
        coarse = max(UNITS[t.dtype] * torch.finfo(t.dtype).eps for t in (x, branch, outputs[-1]) if t is not None)
        for name, result, true in zip(names, results, truths):
            if result is not None:
                true = torch.where(true.abs() < 1e-12, 0, true)  # A single channel minus its mean.
                assert_exact((result,), (true,), coarse / torch.finfo(result.dtype).eps, (name,))


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('case', CASES)
def test_values_and_gradients(shape, case, device, poisoned, assert_exact):
    """As under autocast: a stream in float32, a branch and a normalised map in half precision."""
    tensors, factor = make_all(shape, torch.float32, torch.bfloat16, device)
    check(*chosen(tensors, *case, factor), torch.bfloat16, assert_exact)


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, *HALVES], ids=str)
@pytest.mark.parametrize('case', CASES[::5])
def test_dtypes(dtype, case, device, poisoned, assert_exact):
    tensors, factor = make_all((2, 40, 3, 5), dtype, dtype, device)
    check(*chosen(tensors, *case, factor), dtype, assert_exact)


@pytest.mark.parametrize('path', [PATH, 'grouped'])
@pytest.mark.parametrize('case', CASES[:8:7])
def test_a_layer_scale_widens_the_stream(case, path, device, assert_exact):
    """As in the first block of a stage: the map before the sum in half precision, the stream in float32."""
    tensors, factor = make_all((2, 40, 3, 5), torch.bfloat16, torch.float32, device)
    tensors[1] = tensors[1].detach().bfloat16().requires_grad_()
    check(*chosen(tensors, *case, factor), torch.bfloat16, assert_exact, path)


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('without', ['norm', 'branch', 'weight'])
def test_parts(without, memory_format, device, poisoned, assert_exact):
    tensors, factor = make_all((2, 40, 3, 5), torch.float32, torch.bfloat16, device, memory_format)
    if without == 'branch':
        tensors[1] = tensors[2] = tensors[5] = tensors[6] = factor = None
    elif without == 'weight':  # as a folded model has none
        x, branch, gamma, _, _, *rest = tensors
        given = x, branch, gamma, *rest
        expected = plain(
            *(t.detach().double().cpu() for t in (x, branch, gamma)),
            torch.ones(40).double(),
            torch.zeros(40).double(),
            *(t.detach().double().cpu() for t in rest),
            factor.cpu().double(),
        )
        outputs = residual_norm(x, Branch(branch, *rest), gamma, factor, (None, None, EPS), torch.float32, PATH)
        assert_exact([t.detach() for t in outputs], expected, UNITS[torch.float32])
        grads = [make(*x.shape, device=device, seed=i) for i in range(2)]
        ones = torch.ones(40, device=device, requires_grad=True)
        others = residual_norm(x, Branch(branch, *rest), gamma, factor, (ones, None, EPS), torch.float32, PATH)
        one, other = (torch.autograd.grad(t, given, grads) for t in (outputs, others))
        assert all(torch.equal(*pair) for pair in zip(one, other))
        return
    else:
        tensors[3] = tensors[4] = None
    check(tensors, factor, torch.bfloat16, assert_exact)


@pytest.mark.parametrize('case', [(False, False, False, True), (False, False, False, False)])
def test_a_sum_alone_reads_no_more_than_it_must(case, device, poisoned, assert_exact):
    """Without a norm, and nothing that scales: the gradient of the stream is that of the branch too."""
    tensors, factor = make_all((2, 40, 3, 5), torch.float32, torch.float32, device)
    tensors, factor = chosen(tensors, *case, factor)
    tensors[3] = tensors[4] = None
    check(tensors, factor, torch.float32, assert_exact)


@pytest.mark.parametrize('path', [PATH, 'grouped'])
@pytest.mark.parametrize('case', [(True, True, True, True), (False, False, True, True), (False, False, False, False)])
def test_gradients_to_any_order(case, path, device, assert_exact):
    """Also of what runs where Triton cannot."""
    tensors, factor = make_all((2, 3, 2, 2), torch.float64, torch.float64, device)
    tensors, factor = chosen(tensors, *case, factor)
    check(tensors, factor, torch.float64, assert_exact, path)
    places = [i for i, t in enumerate(tensors) if t is not None]

    def function(*given):
        x, branch, gamma, weight, bias, *rest = [
            given[places.index(i)] if i in places else None for i in range(len(tensors))
        ]
        return residual_norm(x, Branch(branch, *rest), gamma, factor, (weight, bias, EPS), None, path)

    given = [tensors[i] for i in places]
    assert torch.autograd.gradcheck(function, given, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, given, fast_mode=True)
    assert torch.autograd.gradgradcheck(
        lambda x, w, b: residual_norm(x, None, None, None, (w, b, EPS), None, path),
        (tensors[0], *tensors[3:5]),
        fast_mode=True,
    )


def test_repeats_bit_by_bit(device):
    tensors, factor = make_all((2, 32, 9, 13), torch.float32, torch.bfloat16, device)
    runs = []
    for _ in range(2):
        x, branch, gamma, weight, bias, *rest = tensors
        outputs = residual_norm(x, Branch(branch, *rest), gamma, factor, (weight, bias, EPS), torch.bfloat16, PATH)
        grads = [make(*x.shape, dtype=t.dtype, device=device) for t in outputs]
        runs.append([*outputs, *torch.autograd.grad(outputs, tensors, grads)])
    assert all(torch.equal(*pair) for pair in zip(*runs))


def test_nothing_to_add(device):
    tensors, factor = make_all((0, 4, 3, 3), torch.float32, torch.float32, device)
    x, branch, gamma, weight, bias, *rest = tensors
    outputs = residual_norm(x, Branch(branch, *rest), gamma, factor, (weight, bias, EPS), None, PATH)
    assert [t.shape for t in outputs] == [x.shape] * 2
    gradients = torch.autograd.grad([t.sum() for t in outputs], tensors)
    assert [t.shape for t in gradients] == [t.shape for t in tensors]
    assert not any(t.any() for t in gradients)


def test_more_channels_than_a_program_holds(device):
    x = make(1, triton_launch.CHANNELS + 1, 1, 1, device=device)
    with pytest.raises(UserError, match='2049 channels'):
        residual_norm(x, None, None, None, (None, None, EPS), None, PATH)
    with pytest.warns(RuntimeWarning, match='residual sum with its norm cannot run'):
        output = residual_norm(x, None, None, None, (None, None, EPS), None, 'auto')[1]
    torch.testing.assert_close(output, plain(x, None, None, None, torch.zeros_like(x[0, :, 0, 0]), None, None, None)[1])


@pytest.mark.parametrize(('autocast', 'layer_scale'), [(True, True), (True, False), (False, True)])
def test_the_block_takes_it(autocast, layer_scale, device, monkeypatch):
    """Values and gradients with stochastic depth against the block's layers; not where a layer has a hook."""
    torch.manual_seed(0)
    block = Block(4, ATConv(4), ConvGLU(4, 8), drop_path=0.5, layer_scale=layer_scale).to(device)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    launched = []
    original = triton_launch.add_and_normalise
    monkeypatch.setattr(triton_launch, 'add_and_normalise', lambda *args: launched.append(args) or original(*args))
    x = make(3, 4, 5, 6, device=device).contiguous(memory_format=torch.channels_last).requires_grad_()
    inputs = [x, *block.parameters()]

    def run(path):
        monkeypatch.setenv('MMATCONV_OP', path)
        torch.manual_seed(1)
        with torch.autocast(device, torch.bfloat16, enabled=autocast):
            output = block(x)
        return output, *torch.autograd.grad(output.float().square().sum(), inputs)

    results = run('triton'), run('grouped')
    assert len(launched) == 3
    for one, other in zip(*results):
        assert one.dtype == other.dtype
        error = (one - other).norm() / other.norm().clamp_min(1e-3)
        assert error < (0.06 if autocast else 1e-4)
    block.norm_2.register_forward_hook(lambda *args: None)
    monkeypatch.undo()
    monkeypatch.setattr(triton_launch, 'add_and_normalise', lambda *args: launched.append(args) or original(*args))
    run('triton')
    assert len(launched) == 3


def test_hooks_on_what_a_sum_ends(device):
    """A mixer or its last layer with a hook is called, and returns what it would have."""
    torch.manual_seed(0)
    block = Block(4, ATConv(4), ConvGLU(4, 8)).to(device)
    x = make(2, 4, 5, 6, device=device).contiguous(memory_format=torch.channels_last)
    expected = block(x)
    called = []
    for layer in (block.token_mixer, block.token_mixer.proj, block.channel_mixer, block.channel_mixer.fc2):
        hook = layer.register_forward_hook(lambda layer, *args: called.append(layer))
        torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)
        assert called == [layer]
        called.clear()
        hook.remove()


def test_branches_of_a_block_are_dropped_apart(device, monkeypatch):
    """One draw for both, in the dtype of sums."""
    factors = []
    original = triton_launch.add_and_normalise

    def keep(*args):
        factors.append(args[5])
        return original(*args)

    monkeypatch.setattr(triton_launch, 'add_and_normalise', keep)
    torch.manual_seed(0)
    block = Block(1, torch.nn.Identity(), torch.nn.Identity(), drop_path=0.25).to(device, torch.bfloat16)
    block(torch.zeros(200, 1, 1, 1, dtype=torch.bfloat16, device=device))
    _, first, second = factors
    for factor in (first, second):
        assert factor.shape == (200, 1, 1, 1)
        assert set(factor.flatten().tolist()) == {0.0, torch.tensor(1.0).div(0.75).item()}
    assert not torch.equal(first, second)


def test_a_stage_ends_blocks_with_the_norm_of_the_next(device, monkeypatch):
    """Values and gradients against the blocks on their own; not where a block has a hook."""
    torch.manual_seed(0)
    blocks = [Block(4, ATConv(4), ConvGLU(4, 8), drop_path=0.5, layer_scale=True).to(device) for _ in range(3)]
    parameters = [p for block in blocks for p in block.parameters()]
    for parameter in parameters:
        torch.nn.init.normal_(parameter, std=0.5)
    launched = []
    original = triton_launch.add_and_normalise
    monkeypatch.setattr(triton_launch, 'add_and_normalise', lambda *args: launched.append(args) or original(*args))
    x = make(3, 4, 5, 6, device=device).contiguous(memory_format=torch.channels_last).requires_grad_()

    def run():
        launched.clear()
        torch.manual_seed(1)
        with torch.autocast(device, torch.bfloat16):
            *_, output = run_blocks(blocks, x, None)
        return output, *torch.autograd.grad(output.square().sum(), [x, *parameters])

    results = run()
    assert len(launched) == 7
    called = []
    blocks[1].register_forward_hook(lambda *args: called.append(args))
    alone = run()
    assert len(launched) == 9 and len(called) == 1
    for one, other in zip(results, alone):
        assert one.dtype == other.dtype
        # The same operations on the same numbers, but for sums that a norm's gradient joins before or after a rounding.
        assert (one - other).norm() <= 1e-5 * other.norm().clamp_min(1e-3)
