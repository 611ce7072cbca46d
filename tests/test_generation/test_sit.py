"""SiT against tensors of the authors' code, in its counts, and on maps of any shape."""

from functools import cache

import pytest
import torch
from safetensors.torch import load_file

from mmatconv import UserError
from mmatconv.analysis.complexity.projection_first import forward_projection_first
from mmatconv.generation.blocks import SiTATConv
from mmatconv.generation.sit import SiT

MIXERS = dict(attn='attention', atconv='atconv', hybrid='hybrid')
TINY = dict(depth=4, hidden_size=48, num_heads=4, patch_size=2)
# Table VIII and the counts of the released code, which are trained parameters.
PARAMETERS = {
    ('B/2', 'attention'): 130315808,
    ('B/2', 'hybrid'): 126777404,
    ('B/2', 'atconv'): 123239000,
    ('L/2', 'attention'): 457840672,
    ('L/2', 'hybrid'): 445258840,
    ('L/2', 'atconv'): 432677008,
    ('XL/2', 'attention'): 674834720,
    ('XL/2', 'hybrid'): 656256524,
    ('XL/2', 'atconv'): 637678328,
}


@cache
def golden():
    return load_file('tests/data/sit.safetensors')


def tiny(mixer, std=0.3, **options):
    """With random weights in every layer, the gates that begin at zero too."""
    torch.manual_seed(0)
    model = SiT(**{'arch': TINY, 'token_mixer': mixer, 'input_size': 8, 'num_classes': 5, **options}).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return model


@pytest.mark.parametrize('case', MIXERS)
def test_outputs_and_gradients_are_those_of_the_released_code(case):
    tensors = {key.removeprefix(f'{case}/'): value for key, value in golden().items() if key.startswith(f'{case}/')}
    model = tiny(MIXERS[case])
    state = {key.removeprefix('state/'): value for key, value in tensors.items() if key.startswith('state/')}
    model.load_state_dict(state)  # strictly: every name and shape as released
    x = tensors['input0'].clone().requires_grad_()
    output = model(x, tensors['input1'], tensors['input2'])
    # Float64; the sums run in another order than there.
    torch.testing.assert_close(output, tensors['output'], rtol=0, atol=1e-10)
    (grad,) = torch.autograd.grad((output * tensors['grad_output']).sum(), x)
    torch.testing.assert_close(grad, tensors['grad_input'], rtol=0, atol=1e-10)


@pytest.mark.parametrize('arch, mixer', PARAMETERS)
def test_parameters_of_table_viii(arch, mixer):
    with torch.device('meta'):
        model = SiT(arch, mixer)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[arch, mixer]
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_model_without_classes():
    with torch.device('meta'):
        counts = [
            sum(p.numel() for p in SiT('B/2', mixer, 64, num_classes=1, class_dropout_prob=0).parameters())
            for mixer in ('attention', 'atconv')
        ]
    # 1000 classes and 'no class' are 1001 vectors of 768; here there is one.
    assert counts == [130315808 - 1000 * 768, 123239000 - 1000 * 768]
    model = tiny('hybrid', num_classes=1, class_dropout_prob=0)
    x, t = torch.randn(2, 4, 8, 8).double(), torch.rand(2).double()
    assert torch.equal(model(x, t), model(x, t, torch.zeros(2, dtype=torch.long)))
    assert not model.can_guide and tiny('hybrid').can_guide


def test_position_embedding_is_the_released_one():
    state = golden()['hybrid/state/pos_embed']
    # The released code computes it in single precision, and so is it stored.
    torch.testing.assert_close(tiny('hybrid').pos_embed, state, rtol=0, atol=1e-6)


def test_atconv_takes_rectangular_maps():
    """Against a convolution of each map with its kernel in the order of the released code."""
    torch.manual_seed(0)
    layer = SiTATConv(6).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, 6, 3, 5).double().to(memory_format=torch.channels_last).requires_grad_()
    output = layer(x)
    expected = forward_projection_first(layer, x)
    # Float64, sums of at most 15 terms of order one.
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-12)
    weights = torch.randn_like(output)
    grads = [torch.autograd.grad((y * weights).sum(), x, retain_graph=True)[0] for y in (output, expected)]
    torch.testing.assert_close(*grads, rtol=0, atol=1e-12)


def test_sizes_a_model_takes():
    t = torch.rand(1).double()
    assert tiny('atconv')(torch.randn(1, 4, 6, 10).double(), t).shape == (1, 4, 6, 10)
    wide = tiny('hybrid', input_size=(4, 6))
    x = torch.randn(1, 4, 4, 6).double()
    assert wide(x, t).shape == x.shape
    with pytest.raises(UserError, match='position embeddings for inputs of 4 x 6, but the input is 6 x 4'):
        wide(x.transpose(2, 3), t)
    with pytest.raises(UserError, match='multiples of the patch size 2, but is 7 x 8'):
        tiny('atconv')(torch.randn(1, 4, 7, 8).double(), t)


def test_each_patch_goes_back_to_its_place():
    """With nothing but patches in and patches out, a change of one pixel changes the pixels of its patch alone."""
    model = tiny('atconv', input_size=(4, 6), learn_sigma=False)
    model.blocks = torch.nn.ModuleList()
    x, t = torch.randn(1, 4, 4, 6).double(), torch.rand(1).double()
    changed = x.clone()
    changed[0, 1, 2, 5] += 1
    moved = (model(changed, t) - model(x, t)).abs().amax((0, 1)) > 0
    assert moved[2:, 4:].all() and moved.sum() == 4


def test_labels_are_dropped_in_training_alone():
    model = tiny('atconv', class_dropout_prob=0.5)
    embedder = model.y_embedder
    labels = torch.zeros(1000, dtype=torch.long)
    assert torch.equal(embedder(labels), embedder.embedding_table.weight[labels])
    torch.manual_seed(0)
    dropped = (embedder.train()(labels) == embedder.embedding_table.weight[5]).all(1)
    # Binomial, 1000 times one half: four standard deviations are 63.
    assert abs(int(dropped.sum()) - 500) < 64


def test_it_begins_as_zero():
    model = SiT(TINY, 'hybrid', 8, num_classes=5).eval()
    x = torch.randn(2, 4, 8, 8)
    assert torch.equal(model(x, torch.rand(2), torch.tensor([0, 4])), torch.zeros_like(x))


def test_a_live_model_sees_time_and_class_from_the_beginning():
    def spread(style):
        """How far apart what the blocks are told of times and of classes is."""
        torch.manual_seed(0)
        model = SiT(TINY, 'hybrid', 8, num_classes=5, init=style).eval()
        times, classes = model.t_embedder(torch.linspace(0, 1, 9)), model.y_embedder(torch.arange(5))
        return [float(told.std(0).mean().detach()) for told in (times, classes)]

    # A hidden layer of 48 channels and one number for each class and channel: far more than chance would differ.
    assert all(live > 20 * released for live, released in zip(spread('live'), spread('released')))
    live = SiT(TINY, 'hybrid', 8, init='live')
    assert live.blocks[1].attn.kernel_proj.bias.std() > 0.5
    x = torch.randn(2, 4, 8, 8)
    assert torch.equal(live(x, torch.rand(2)), torch.zeros_like(x))


@pytest.mark.parametrize('mixer', ['attention', 'atconv'])
def test_half_precision_stays_near(mixer):
    model = tiny(mixer, std=0.1)  # larger weights make attention a choice that a rounding can turn
    x, t = torch.randn(2, 4, 8, 8), torch.rand(2)
    exact, streams = model(x.double(), t.double()), []
    with torch.autocast('cpu', torch.bfloat16):
        model.float().blocks[-1].register_forward_hook(lambda block, x, tokens: streams.append(tokens.dtype))
        mixed = model(x, t)
    # What the blocks add to is not rounded.
    assert streams == [torch.float32]
    # bfloat16 rounds by up to 2 ** -8, here a dozen times in a row, each time independently.
    assert (mixed - exact).norm() < 4 * 2**-8 * exact.norm()


@pytest.mark.parametrize(
    'options, sentence',
    [
        (dict(arch='H/2'), 'arch must be one of S/2, B/2, L/2, XL/2 or a dict of depth, .* but is .H/2.'),
        (dict(token_mixer='conv'), "token_mixer must be one of attention, atconv, hybrid, but is 'conv'"),
        (dict(arch=dict(TINY, num_heads=5)), r'divisible by 4 and by num_heads \(5\), but is 48'),
        (dict(init='random'), "init must be one of released, live, but is 'random'"),
        (dict(num_classes=0), r'num_classes must be 1 \(a model without classes\) or more, but is 0'),
        (dict(input_size=(8, 9)), 'multiples of the patch size 2, but is 8 x 9'),
    ],
)
def test_wrong_options_are_one_sentence(options, sentence):
    with pytest.raises(UserError, match=sentence):
        SiT(**{'arch': TINY, **options})


def test_the_fused_generator_does_not_stand_for_the_tanh_form():
    assert SiTATConv(4).generator_arguments() is None
