"""mmcv's ops that our detectors need, on the GPU against the CPU, from maps in both memory formats."""

import torch

from mmatconv.analysis.benchmark.agreement import without_tf32
from mmatconv.analysis.gpu_check.record import Disagreement, Record
from mmatconv.analysis.gpu_check.target import Target

# Of the largest value: float32 sums of four products, and their gradients' sums in another order.
ERROR = 1e-5


def run(record: Record, target: Target) -> None:
    try:
        import mmcv.ops  # noqa: F401

        from mmatconv.backbones import AttNet
    except ImportError as error:
        record.left_out('mmcv.ops', str(error))
        return
    # Whoever builds a backbone has RoIAlign read channels_last maps; see openmmlab/roi_align.py.
    AttNet(dict(depths=(1,), dims=(8,), exp_rates=2))
    for memory_format in target.formats:
        record.check(f'RoIAlign, {memory_format}', lambda f=memory_format: roi_align(f, target))
    record.check('NMS', lambda: nms(target))


def boxes(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(count, 2, generator=generator) * 60
    return torch.cat([corners, corners + 4 + 30 * torch.rand(count, 2, generator=generator)], 1)


def roi_align(memory_format: str, target: Target) -> str:
    from mmcv.ops import RoIAlign

    layer = RoIAlign(7, 0.5, 0)
    x = target.random(2, 16, 50, 51, memory_format=memory_format)
    rois = torch.cat([torch.arange(40)[:, None] % 2, boxes(40)], 1)
    grad = torch.randn(40, 16, 7, 7, generator=torch.Generator().manual_seed(1))
    results = []
    for features in (x, x.cpu().contiguous()):
        features = features.detach().requires_grad_()
        with without_tf32():
            output = layer(features, rois.to(features.device))
            (gradient,) = torch.autograd.grad(output, features, grad.to(features.device))
        results.append((output.detach().cpu(), gradient.cpu()))
    error = max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(*results))
    if not error <= ERROR:
        raise Disagreement(f'off by {error:.1e}, allowed {ERROR:.0e}')
    return f'error {error:.1e}'


def nms(target: Target) -> str:
    from mmcv.ops import nms as mmcv_nms

    found, scores = boxes(500), torch.rand(500, generator=torch.Generator().manual_seed(1))
    kept = [mmcv_nms(found.to(d), scores.to(d), 0.5)[1].cpu() for d in ('cpu', target.device)]
    if not torch.equal(*kept):
        raise Disagreement(f'{len(kept[0])} boxes are kept on the CPU, {len(kept[1])} here, or others')
    return f'{len(kept[0])} of 500 boxes kept'
