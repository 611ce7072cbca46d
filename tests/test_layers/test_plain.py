"""What hangs on a layer is honoured wherever a fast path could read past it: hooks, wrappers, parametrisations."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize

from mmatconv import ATConvPVT, AttNet
from mmatconv.layers import MLP, ATConv, Block, ConvGLU
from mmatconv.ops import reference

FORMATS = [torch.contiguous_format, torch.channels_last]
MODES = ['train', 'eval', 'no_grad']
# Single precision: some thirty operations of rounding error 6e-8, on values that hooks double.
TOLERANCE = 2e-5


def make(channel_mixer):
    torch.manual_seed(0)
    mixer = ConvGLU(6, 10) if channel_mixer == 'ConvGLU' else MLP(6, 10)
    block = Block(6, ATConv(6), mixer, drop_path=0.0, layer_scale=True)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    return block


def by_modules(block, x):
    """The block with every layer called."""
    mixer, channels = block.token_mixer, block.channel_mixer

    def mix(x):
        context = mixer.kernel_proj(F.adaptive_avg_pool1d(x.flatten(2), 9).unsqueeze(-1)).squeeze(-1)
        kernels = mixer.modulate(mixer.kernel_gen(mixer.kernel_act(context))).unflatten(2, (3, 3))
        return mixer.proj(reference(mixer.x_proj(x), kernels))

    def mix_channels(x):
        if isinstance(channels, MLP):
            return channels.fc2(channels.act(channels.fc1(x)))
        gate, value = channels.fc1(x).chunk(2, dim=1)
        return channels.fc2(channels.norm_layer(F.gelu(channels.dwconv(gate)) * value))

    x = x + block.drop_path(block.layer_scale_1(mix(block.norm_1(x))))
    return x + block.drop_path(block.layer_scale_2(mix_channels(block.norm_2(x))))


class Twice(nn.Module):
    def forward(self, x):
        return 2 * x


class Wrapper(nn.Module):
    """As adapters are: the layer lies deeper inside, and there is no weight to read."""

    def __init__(self, layer):
        super().__init__()
        self.base_layer = layer

    def forward(self, x):
        return 2 * self.base_layer(x)


def hang_subclass(block, name):
    layer = block.get_submodule(name)
    layer.__class__ = type('Own', (type(layer),), {'forward': lambda self, x: 2 * super(type(self), self).forward(x)})


def hang_forward(block, name):
    layer = block.get_submodule(name)
    layer.forward = lambda x: 2 * type(layer).forward(layer, x)


def hang_parametrisation(block, name):
    layer = block.get_submodule(name)
    for parameter in ('weight', 'gamma'):
        if hasattr(layer, parameter):
            parametrize.register_parametrization(layer, parameter, Twice())


HANG = {
    'hook': lambda block, name: block.get_submodule(name).register_forward_hook(lambda m, args, output: 2 * output),
    'pre-hook': lambda block, name: block.get_submodule(name).register_forward_pre_hook(lambda m, args: 2 * args[0]),
    'wrapper': lambda block, name: block.set_submodule(name, Wrapper(block.get_submodule(name))),
    'subclass': hang_subclass,
    'forward of the instance': hang_forward,
    'parametrisation': hang_parametrisation,
}


def leaves(block):
    return [name for name, layer in block.named_modules() if not list(layer.children())]


def context(mode):
    return torch.no_grad() if mode == 'no_grad' else torch.enable_grad()


@pytest.mark.parametrize('kind', HANG)
@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('memory_format', FORMATS)
@pytest.mark.parametrize('channel_mixer', ['ConvGLU', 'MLP'])
def test_each_layer_is_honoured(channel_mixer, memory_format, mode, kind):
    if kind == 'wrapper' and not hasattr(nn.Module, 'set_submodule'):  # torch before 2.5
        nn.Module.set_submodule = lambda self, name, layer: setattr(
            self.get_submodule(name.rpartition('.')[0]), name.rpartition('.')[2], layer
        )
    plain = make(channel_mixer).train(mode == 'train')
    x = torch.randn(2, 6, 5, 4).contiguous(memory_format=memory_format)
    with context(mode):
        untouched = plain(x)
        for name in leaves(plain):
            if kind == 'parametrisation' and not list(plain.get_submodule(name).parameters()):
                continue
            block = copy.deepcopy(plain)
            HANG[kind](block, name)
            output, expected = block(x), by_modules(block, x)
            assert (output - expected).abs().max() < TOLERANCE * expected.abs().max(), name
            # A norm undoes what doubles its input.
            if (kind, name.rpartition('.')[2]) not in [('pre-hook', f'norm_{i}') for i in ('layer', 1, 2)]:
                assert (output - untouched).abs().max() > 1e-3 * untouched.abs().max(), name


@pytest.mark.parametrize('memory_format', FORMATS)
def test_hooks_on_gradients(memory_format):
    block = make('ConvGLU')
    x = torch.randn(2, 6, 5, 4).contiguous(memory_format=memory_format)
    names = [name for name in leaves(block) if name != 'drop_path']
    called = []
    for name in names:
        layer = block.get_submodule(name)
        layer.register_full_backward_hook(lambda *args, name=name: called.append(name))
        layer.register_full_backward_pre_hook(lambda *args, name=name: called.append(name))
    block(x.requires_grad_()).sum().backward()
    assert sorted(called) == sorted(2 * names)


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize(('backbone', 'ratios'), [(AttNet, dict(exp_rates=2)), (ATConvPVT, dict(mlp_ratios=2))])
def test_hooks_on_all_layers_of_a_backbone(backbone, ratios, mode):
    torch.manual_seed(0)
    model = backbone(dict(depths=[1, 1], dims=[8, 12], **ratios), init='live', drop_path_rate=0.0).train(
        mode == 'train'
    )
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.momentum = 0.0
    x = torch.randn(1, 3, 32, 40)
    with context(mode):
        expected = model(x)
        names = {layer: name for name, layer in model.named_modules() if type(layer).forward is not nn.Module.forward}
        names = {layer: name for layer, name in names.items() if not list(layer.children())}
        own, of_all = set(), set()
        hooks = [layer.register_forward_hook(lambda m, *args: own.add(names[m])) for layer in names]
        outputs = [model(x)]
        for hook in hooks:
            hook.remove()
        hook = nn.modules.module.register_module_forward_hook(lambda m, *args: of_all.add(names.get(m)))
        outputs.append(model(x))
        hook.remove()
        assert own == of_all - {None} == set(names.values())
        for output in outputs:
            for a, b in zip(output, expected):
                assert (a - b).abs().max() < TOLERANCE * b.abs().max()


def test_a_wrapped_projection_keeps_its_dtype_under_autocast():
    layer = ATConv(6)
    x = torch.randn(1, 6, 5, 4)
    expected = layer(x)
    layer.kernel_proj = nn.Sequential(layer.kernel_proj)
    with torch.autocast('cpu', torch.bfloat16):
        output = layer(x.bfloat16())
    # Projections and a convolution in bfloat16, unit 2**-8.
    assert (output - expected).norm() < 6 * 2**-8 * expected.norm()
