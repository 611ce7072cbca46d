"""Stage 4: backbones against float64 and the released tensors; padding, folding, graphs, streams, repetition."""

import copy
import json
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmatconv.analysis.benchmark.agreement import without_tf32
from mmatconv.analysis.benchmark.random_weights import randomize
from mmatconv.analysis.gpu_check.agreement import check_module
from mmatconv.analysis.gpu_check.record import Disagreement, Record
from mmatconv.analysis.gpu_check.target import Target
from mmatconv.backbones import ATConvPVT, ATConvSwin, AttNet
from mmatconv.deploy.folding import fold

GOLDEN = Path(__file__).resolve().parents[3] / 'tests' / 'data' / 'attnet_tiny.safetensors'
# Relative to the largest value: four stages of float32 arithmetic.
GOLDEN_ERROR = 1e-4


def backbones(target: Target) -> dict[str, Callable[..., nn.Module]]:
    """Small backbones of the three families, without stochastic depth; none of the hidden sizes is a multiple of 8."""
    wide, gpu = (40, 72, 96, 136), target.on_gpu
    arch = dict(depths=(1, 1, 2, 1), dims=wide) if gpu else dict(depths=(1, 1), dims=(16, 24))
    pvt = dict(arch, mlp_ratios=4 if gpu else 2)
    return {
        'AttNet': lambda **o: AttNet(dict(arch, exp_rates=4 if gpu else 2), **o),
        'ATConvPVT': lambda **o: ATConvPVT(pvt, drop_path_rate=0.0, **o),
        'ATConvSwin': lambda **o: ATConvSwin(pvt, drop_path_rate=0.0, **o),
    }


def run(record: Record, target: Target) -> None:
    size = (130, 190) if target.on_gpu else (33, 36)
    makers = backbones(target)
    models = {name: randomize(make()) for name, make in makers.items()}
    # In the interpreter one backbone tells what there is to tell.
    chosen = models if target.on_gpu else {'AttNet': models['AttNet']}
    for dtype_name, dtype in target.dtypes.items():
        for name, model in chosen.items():
            for memory_format in target.formats if target.on_gpu else ('channels_last',):
                x = target.random(2, 3, *size, dtype=dtype, memory_format=memory_format)
                record.check(
                    f'{name}, {dtype_name}, {memory_format}',
                    lambda m=model, x=x, d=dtype: check_module(m, x, target, d),
                )
        if dtype != torch.float32 and target.on_gpu:
            for name, model in chosen.items():
                x = target.random(2, 3, *size, memory_format='channels_last')
                record.check(
                    f'{name}, {dtype_name} autocast',
                    lambda m=model, x=x, d=dtype: check_module(m, x, target, d, autocast=True),
                )
        padded = pad(target.random(2, 3, *size), target)
        masked = randomize(makers['AttNet'](mask_padding=True)).eval()
        record.check(
            f'AttNet with mask_padding, {dtype_name}{"" if dtype == torch.float32 else " autocast"}',
            lambda m=masked, x=padded, d=dtype: check_module(m, x, target, d, autocast=d != torch.float32),
        )
    for name, model in chosen.items():
        x = target.random(1, 3, *size)
        record.check(
            f'{name} folded', lambda m=model, x=x: check_module(fold(m.eval()), x, target, torch.float32, False, False)
        )
    golden(record, target)
    model = copy.deepcopy(models['AttNet']).to(target.device).eval()
    x = target.random(2, 3, *size, memory_format='channels_last')
    record.check('repeated bit by bit, gradients too', lambda: repeats(model, x))
    if not target.on_gpu:
        record.needs_gpu('on another stream', 'graph capture', 'graph capture with mask_padding')
        return
    record.check('on another stream', lambda: other_stream(model, x))
    record.check('graph capture', lambda: captured(model, x))
    masked = randomize(makers['AttNet'](mask_padding=True)).eval().to(target.device)
    record.check('graph capture with mask_padding', lambda: captured(masked, pad(x, target)))


def pad(images: Tensor, target: Target) -> Tensor:
    """The first image ends a quarter earlier at the right, the last at the bottom."""
    height, width = images.shape[2:]
    images = images.clone()
    images[0, :, :, width - width // 4 :] = 0
    images[-1, :, height - height // 4 :] = 0
    return images


def golden(record: Record, target: Target) -> None:
    """The released code's own outputs, float32 on the device."""
    name = 'the released code, its own tensors'
    if not GOLDEN.exists():
        record.left_out(name, f'{GOLDEN.name} is in a checkout only')
        return
    try:
        from safetensors import safe_open
    except ImportError:
        record.left_out(name, 'safetensors is missing')
        return
    with safe_open(GOLDEN, 'pt') as file:
        config = json.loads(file.metadata()['config'])
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    arch = {key: config[key] for key in ('depths', 'dims', 'exp_rates', 'kernel_sizes')}
    model = AttNet(dict(arch, layer_scale=config['use_layer_scale'], glu_norm=config['glu_norm'][0])).eval()
    weights = {key.removeprefix('weights/'): value for key, value in tensors.items() if key.startswith('weights/')}
    model.load_state_dict({key: value for key, value in weights.items() if key in model.state_dict()})
    model.to(target.device)
    for case in ('2x64x64', '1x50x77') if target.on_gpu else ('1x50x77',):
        record.check(f'{name}, {case}', lambda case=case: against_golden(model, tensors, case, target))


def against_golden(model: nn.Module, tensors: dict[str, Tensor], case: str, target: Target) -> str:
    with torch.no_grad(), without_tf32():
        stages = model(tensors[f'{case}/input'].float().to(target.device))
    worst = 0.0
    for i, stage in enumerate(stages):
        expected = tensors[f'{case}/stage{i}']
        worst = max(worst, ((stage.cpu().double() - expected).abs().max() / expected.abs().max()).item())
    if not worst <= GOLDEN_ERROR:
        raise Disagreement(f'off by {worst:.1e}, allowed {GOLDEN_ERROR:.0e}')
    return f'error {worst:.1e}'


def step(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Outputs and gradients of one forward and backward."""
    outputs = model(x)
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(sum(output.square().mean() for output in outputs), parameters)
    return [output.detach() for output in outputs] + list(gradients)


def assert_equal(found: list[Tensor], expected: list[Tensor]) -> None:
    different = sum(not torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    if different:
        raise Disagreement(f'{different} of {len(expected)} tensors differ')


def repeats(model: nn.Module, x: Tensor) -> None:
    # cuDNN's own convolutions need not repeat themselves.
    with torch.backends.cudnn.flags(enabled=True, deterministic=True):
        assert_equal(step(model, x), step(model, x))


def other_stream(model: nn.Module, x: Tensor) -> None:
    with torch.backends.cudnn.flags(enabled=True, deterministic=True):
        expected = step(model, x)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            found = step(model, x)
        stream.synchronize()
    assert_equal(found, expected)


def captured(model: nn.Module, x: Tensor) -> None:
    """Forward and backward in a graph, replayed on another image, against eager."""
    other = F.hardtanh(x.flip(3))
    image = x.clone(memory_format=torch.preserve_format)
    with torch.backends.cudnn.flags(enabled=True, deterministic=True):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                step(model, image)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            found = step(model, image)
        for images in (x, other):
            image.copy_(images)
            graph.replay()
            torch.cuda.synchronize()
            assert_equal([tensor.clone() for tensor in found], step(model, images))
