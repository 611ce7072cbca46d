"""ACmix against tensors of the authors' code and against plain formulas, as many ways as it is computed."""

import math
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode

from mmatconv import ATConvSwin, UserError
from mmatconv.layers.token_mixers import acmix
from mmatconv.layers.token_mixers.acmix_reduction import ACmixReduction
from mmatconv.layers.token_mixers.acmix_sliding import ACmixSliding
from mmatconv.layers.token_mixers.acmix_window import ACmixWindow, shift_mask
from mmatconv.layers.token_mixers.lkca import LKCA

from .plain_attention import all_pairs, coordinates, project, same, swin_bias, to_map, tokens_of

# Both ways of the convolution branch: one convolution, and nine maps.
WAYS = pytest.mark.parametrize('few_heads', [0, 100])


@cache
def golden():
    return load_file('tests/data/acmix.safetensors')


def case(name):
    """Tensors of a case, and its parameters."""
    tensors = {key.removeprefix(f'{name}/'): value for key, value in golden().items() if key.startswith(f'{name}/')}
    state = {key.removeprefix('state/'): value for key, value in tensors.items() if key.startswith('state/')}
    state.pop('relative_position_index', None)
    return tensors, state


def seeded(layer):
    torch.manual_seed(0)
    for parameter in layer.double().parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return layer


# ---- the authors' code ---------------------------------------------------------------------------------------------


@WAYS
@pytest.mark.parametrize('name', ['window', 'window_masked'])
def test_window_form_is_the_released_one(name, few_heads, monkeypatch):
    monkeypatch.setattr(acmix, 'FEW_HEADS', few_heads)
    layer = ACmixWindow(12, num_heads=3, window_size=4).double()
    layer.load_state_dict(case('window')[1])
    tensors, _ = case(name)
    x = tensors['input0'].clone().requires_grad_()
    grouped = F.linear(x, layer.by_group(layer.qkv.weight), layer.by_group(layer.qkv.bias))
    output = layer.blend(layer.attend(grouped, tensors.get('mask')), layer.convolve(grouped).permute(0, 2, 3, 1))
    torch.testing.assert_close(output, tensors['output'], rtol=0, atol=1e-10)
    (grad,) = torch.autograd.grad((output * tensors['grad_output']).sum(), x)
    torch.testing.assert_close(grad, tensors['grad_input'], rtol=0, atol=1e-10)
    if name == 'window':
        whole = layer(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        torch.testing.assert_close(whole, tensors['output'], rtol=0, atol=1e-10)
    else:
        mask = shift_mask(x.shape[1:3], 4, [2, 2], x.device)
        torch.testing.assert_close(mask, tensors['mask'], check_dtype=False, rtol=0, atol=0)


@WAYS
@pytest.mark.parametrize(('name', 'stride'), [('sliding', 1), ('sliding_stride2', 2)])
def test_sliding_form_is_the_released_one(name, stride, few_heads, monkeypatch):
    monkeypatch.setattr(acmix, 'FEW_HEADS', few_heads)
    tensors, state = case(name)
    layer = ACmixSliding(16, num_heads=4, stride=stride).double()
    layer.load_state_dict(state)
    x = tensors['input0'].clone().requires_grad_()
    output = layer(x)
    torch.testing.assert_close(output, tensors['output'], rtol=0, atol=1e-10)
    (grad,) = torch.autograd.grad((output * tensors['grad_output']).sum(), x)
    torch.testing.assert_close(grad, tensors['grad_input'], rtol=0, atol=1e-10)


@pytest.mark.parametrize(('arch', 'parameters'), [('tiny', 28_649_908), ('small', 50_345_080)])
def test_swin_has_as_many_parameters_as_the_authors_models(arch, parameters):
    mixer = dict(type='ACmixWindow', num_heads=[3, 6, 12, 24])
    with torch.device('meta'):
        model = ATConvSwin(arch, merging='linear', token_mixer=mixer, gap_before_final_norm=True)
        head = torch.nn.Linear(768, 1000)
    assert sum(p.numel() for part in (model, head) for p in part.parameters()) == parameters


def test_sliding_form_has_as_many_parameters_as_the_authors_layer():
    assert sum(p.numel() for p in ACmixSliding(64).parameters()) == 17_822


# ---- plain formulas ------------------------------------------------------------------------------------------------


def plain_convolution(layer, qkv, stride=1):
    """(B, 3 C, H, W) -> (B, C, ...): nine maps of every group, shifted and summed by the learned kernels."""
    heads = layer.num_heads
    maps = qkv.unflatten(1, (3 * heads, -1))
    nine = torch.einsum('ti,bidyx->bdtyx', layer.fc.weight[:, :, 0, 0], maps)
    if layer.fc.bias is not None:
        nine = nine + layer.fc.bias[:, None, None]
    padded = F.pad(nine, (1, 1, 1, 1))
    height, width = qkv.shape[2:]
    weight = layer.dep_conv.weight.unflatten(0, (-1, heads))
    total = sum(
        torch.einsum('dot,bdtyx->bdoyx', weight[..., i, j], padded[..., i : i + height, j : j + width])
        for i in range(3)
        for j in range(3)
    )
    return total.flatten(1, 2)[:, :, ::stride, ::stride]


def plain_window(layer, x):
    side, (height, width) = layer.window_size, x.shape[2:]
    x = F.pad(x, (0, -width % side, 0, -height % side))
    size = x.shape[2:]
    shifts = [layer.shift_size if length > side else 0 for length in size]
    # The row and column of the map that each pixel of the rolled map comes from.
    rows, columns = coordinates(*size)
    from_rows, from_columns = (rows + shifts[0]) % size[0], (columns + shifts[1]) % size[1]
    order = from_rows * size[1] + from_columns
    tokens = tokens_of(x)[:, order]
    q, k, v = project(tokens, layer.qkv).chunk(3, 2)
    wrapped = [(rows + shifts[0]) // size[0], (columns + shifts[1]) // size[1]]
    allowed = same(rows // side, columns // side, *wrapped)
    bias = swin_bias(layer.relative_position_bias_table, rows % side, columns % side, side)
    attended = project(all_pairs(q, k, v, layer.num_heads, allowed, bias), layer.proj)
    convolved = plain_convolution(layer, to_map(torch.cat([q, k, v], 2), size))
    output = layer.rate1 * attended + layer.rate2 * tokens_of(convolved)
    return to_map(output[:, order.argsort()], size)[:, :, :height, :width]


def plain_sliding(layer, x):
    height, width = x.shape[2:]
    q, k, v = (project(tokens_of(x), part) for part in (layer.conv1, layer.conv2, layer.conv3))
    convolved = plain_convolution(layer, to_map(torch.cat([q, k, v], 2), (height, width)), layer.stride)
    rows, columns = coordinates(height, width)
    places = [2 * index.double() / max(side - 1, 1) - 1 for index, side in ((columns, width), (rows, height))]
    code = project(torch.stack(places, 1), layer.conv_p)
    radius, heads = layer.attention_size // 2, layer.num_heads
    grid = np.pad(np.arange(height * width).reshape(height, width), radius, mode='reflect')
    queries, neighbours = [], []
    for i in range(0, height, layer.stride):
        for j in range(0, width, layer.stride):
            queries.append(i * width + j)
            neighbours.append(torch.tensor(grid[i : i + 2 * radius + 1, j : j + 2 * radius + 1].ravel()))
    neighbours = torch.stack(neighbours)
    q, k, v = (part.unflatten(2, (heads, -1)) for part in (q, k, v))
    relative = code[queries][:, None] - code[neighbours]
    q = q[:, queries]
    keys = k[:, neighbours] + relative[:, :, None]
    weights = torch.einsum('bnhd,bnthd->bnht', q, keys).mul(q.shape[3] ** -0.5).softmax(3)
    attended = torch.einsum('bnht,bnthd->bnhd', weights, v[:, neighbours]).flatten(2)
    return layer.rate1 * to_map(attended, convolved.shape[2:]) + layer.rate2 * convolved


def plain_reduction(layer, x):
    height, width = x.shape[2:]
    ratio = layer.sr_ratio
    reduced = x
    if ratio > 1:
        padded = F.pad(x, (0, -width % ratio, 0, -height % ratio))
        reduced = F.conv2d(padded, layer.sr.weight, layer.sr.bias, ratio)
        reduced = F.layer_norm(reduced.movedim(1, 3), x.shape[1:2], layer.norm.weight, layer.norm.bias, 1e-6)
        reduced = reduced.movedim(3, 1)
    q, (k, v) = project(tokens_of(x), layer.q), project(tokens_of(reduced), layer.kv).chunk(2, 2)
    attended = project(all_pairs(q, k, v, layer.num_heads), layer.proj)
    rows, columns = coordinates(height, width)
    source = rows // ratio * reduced.shape[3] + columns // ratio
    qkv = torch.cat([q, k[:, source], v[:, source]], 2)
    convolved = plain_convolution(layer, to_map(qkv, (height, width)))
    return layer.rate1 * to_map(attended, (height, width)) + layer.rate2 * convolved


FORMS = {
    'window': (lambda: ACmixWindow(12, 3, window_size=4), plain_window),
    'shifted': (lambda: ACmixWindow(12, 3, window_size=4, block=1), plain_window),
    'sliding': (lambda: ACmixSliding(12, 3, attention_size=5), plain_sliding),
    'sliding, stride 2': (lambda: ACmixSliding(12, 3, attention_size=3, stride=2), plain_sliding),
    'reduction': (lambda: ACmixReduction(12, 3, sr_ratio=2), plain_reduction),
    'no reduction': (lambda: ACmixReduction(12, 3), plain_reduction),
}


@pytest.mark.parametrize('few_heads', [2, 3])
@pytest.mark.parametrize('size', [(5, 9), (8, 4), (3, 3), (1, 2), (17, 11)])
@pytest.mark.parametrize('name', FORMS)
def test_values_and_gradients_are_those_of_the_plain_formula(name, size, few_heads, monkeypatch):
    monkeypatch.setattr(acmix, 'FEW_HEADS', few_heads)
    build, plain = FORMS[name]
    layer = seeded(build())
    x = torch.randn(2, 12, *size, dtype=torch.float64)
    # Beside both memory formats a map that is a part of a larger one.
    part = torch.zeros(2, 12, size[0] + 1, 2 * size[1], dtype=torch.float64)[:, :, 1:, ::2].copy_(x)
    expected = plain(layer, x)
    weight = torch.randn_like(expected)
    x.requires_grad_()
    wanted = torch.autograd.grad((plain(layer, x) * weight).sum(), [x, *layer.parameters()])
    for given in (x.detach().clone(), x.detach().contiguous(memory_format=torch.channels_last), part):
        given.requires_grad_()
        output = layer(given)
        torch.testing.assert_close(output, expected, rtol=1e-11, atol=1e-11)
        grads = torch.autograd.grad((output * weight).sum(), [given, *layer.parameters()])
        for grad, expected_grad in zip(grads, wanted):
            torch.testing.assert_close(grad, expected_grad, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('dtype', [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.newer_torch)])
@pytest.mark.parametrize('name', FORMS)
def test_autocast_stays_near_float32(name, dtype):
    torch.manual_seed(0)
    layer = FORMS[name][0]()
    x = torch.randn(1, 12, 20, 24)
    exact = layer(x)
    with torch.autocast('cpu', dtype):
        output = layer(x)
    assert output.dtype == dtype
    # A handful of roundings in a row: units of 2**-8 and 2**-11.
    unit = {torch.bfloat16: 2**-8, torch.float16: 2**-11}[dtype]
    assert ((output - exact).norm() / exact.norm()).item() < 4 * unit
    output.float().square().sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in layer.parameters())


# ---- what the convolution branch is --------------------------------------------------------------------------------


def test_the_initial_shifts_make_a_convolution_of_the_fully_connected_layer():
    """Figure 2 of the paper: nine 1x1 convolutions, shifted and summed, are one 3x3 convolution."""
    layer = ACmixSliding(12, 3).double()
    qkv = torch.randn(1, 36, 6, 7, dtype=torch.float64)
    kernel = layer.fc.weight[:, :, 0, 0].T.reshape(1, 9, 3, 3)
    expected = F.conv2d(qkv.unflatten(1, (9, 4)).transpose(1, 2).flatten(0, 1), kernel, padding=1)
    expected = expected.transpose(0, 1).repeat_interleave(3, 1)
    grouped = layer.by_group(qkv[0])[None].permute(0, 2, 3, 1)
    torch.testing.assert_close(layer.convolve(grouped), expected, rtol=1e-12, atol=1e-12)


def test_initialising_a_backbone_leaves_the_shifts_alone():
    arch = dict(depths=[1] * 4, dims=[8] * 4)
    model = ATConvSwin(arch, token_mixer=dict(type='ACmixWindow', num_heads=2), init='live')
    weight = model.stages[0][0].token_mixer.dep_conv.weight
    assert torch.equal(weight.sum((1, 2, 3)), torch.full((8,), 9.0)) and set(weight.unique().tolist()) == {0.0, 1.0}


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that any operation makes."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        for tensor in output if isinstance(output, tuple | list) else (output,):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.untyped_storage().nbytes() // tensor.element_size())
        return output


# Before torch 2.3 attention with a mask keeps its weights on a CPU.
@pytest.mark.newer_torch
@pytest.mark.parametrize(('attention_size', 'copies'), [(7, 3.1), (15, 4.5)])
def test_windows_are_not_copied_for_every_pixel(attention_size, copies):
    layer = ACmixSliding(32, 4, attention_size)
    x = torch.randn(1, 32, 64, 64)
    with Largest() as largest, torch.no_grad():
        layer(x)
    assert largest.elements <= math.ceil(copies * x.numel())


# ---- padding, errors -----------------------------------------------------------------------------------------------


def test_an_image_of_a_padded_batch_is_mixed_as_if_alone():
    torch.manual_seed(0)
    mixers = [
        dict(type='ACmixWindow', num_heads=2, window_size=4),
        dict(type='ACmixReduction', num_heads=2, sr_ratio=2),
        dict(type='LKCA', size=8, num_heads=2, other_sizes='interpolate'),
        dict(type='ACmixSliding', num_heads=2, attention_size=3),
    ]
    arch = dict(depths=[2, 2, 1, 1], dims=[8] * 4)
    model = ATConvSwin(arch, merging='linear', token_mixer=mixers, init='live', mask_padding=True).double().eval()
    images = torch.randn(2, 3, 96, 128, dtype=torch.float64)
    images[0, :, 70:] = 0
    images[1, :, :, 100:] = 0
    together = model(images)
    for index, (height, width) in enumerate([(70, 128), (96, 100)]):
        for level, alone in enumerate(model(images[index : index + 1, :, :height, :width])):
            height, width = alone.shape[2:]
            found = together[level][index]
            torch.testing.assert_close(found[:, :height, :width], alone[0], rtol=1e-10, atol=1e-10)
            assert not found[:, height:].any() and not found[:, :, width:].any()


@pytest.mark.parametrize(
    ('build', 'message'),
    [
        (lambda: ACmixWindow(10, 4), 'num_heads must divide the 10 channels of the token mixer, but is 4'),
        (lambda: ACmixSliding(10, 3), 'num_heads must divide the 10 channels of the token mixer, but is 3'),
        (lambda: ACmixSliding(8, 4, attention_size=6), 'must be odd and positive, but is 6'),
        (lambda: ACmixReduction(8, 4, sr_ratio=0), 'sr_ratio must be a positive integer, but is 0'),
        (lambda: LKCA(8, kernels='row'), "kernels must be one of channel, head, single, but is 'row'"),
        (lambda: LKCA(8, other_sizes='stretch'), "other_sizes must be one of crop, interpolate, but is 'stretch'"),
        (lambda: LKCA(8, size=0), 'size must be a positive integer, but is 0'),
        (lambda: LKCA(10, num_heads=4), 'num_heads must divide the 10 channels of the token mixer, but is 4'),
    ],
)
def test_wrong_options_are_named(build, message):
    with pytest.raises(UserError, match=message):
        build()
