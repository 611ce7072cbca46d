"""Stage 5: training in mixed precision, alone and through DistributedDataParallel."""

import copy
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mmatconv.analysis.benchmark.agreement import TOLERANCE, errors
from mmatconv.analysis.gpu_check.agreement import assert_allowed
from mmatconv.analysis.gpu_check.record import Disagreement, Record
from mmatconv.analysis.gpu_check.target import Target
from mmatconv.backbones import AttNet

CLASSES = 4
# At a learning rate of 1e-3 the images are learnt by heart in this many steps; see test_gpu_check.py.
STEPS = 30
FALLEN = 0.8


class Classifier(nn.Module):
    """An AttNet with LayerScale, as T1 to T4 have it, and a linear head."""

    def __init__(self, dims: tuple[int, ...]) -> None:
        super().__init__()
        arch = dict(depths=(1,) * len(dims), dims=dims, exp_rates=4)
        self.backbone = AttNet(arch, gap_before_final_norm=True)
        self.head = nn.Linear(dims[-1], CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images)[0])


def run(record: Record, target: Target) -> None:
    dims = (32, 64, 96, 128) if target.on_gpu else (8, 12)
    torch.manual_seed(0)
    model = Classifier(dims)
    images = target.random(8, 3, *((64, 64) if target.on_gpu else (32, 32)), memory_format='channels_last')
    labels = torch.arange(len(images), device=target.device) % CLASSES
    for name, dtype in target.dtypes.items():
        if dtype != torch.float32:
            record.check(
                f'{STEPS} steps, {name} autocast',
                lambda d=dtype: train(copy.deepcopy(model).to(target.device), images, labels, d),
            )
    if not target.on_gpu:
        record.needs_gpu(f'{STEPS} steps, float16 autocast with loss scaling')
    backend = 'nccl' if target.on_gpu else 'gloo'
    record.check(
        f'DistributedDataParallel over {backend}, one process, against plain',
        lambda: distributed(model.to(target.device), images, labels, backend),
    )


def train(model: Classifier, images: Tensor, labels: Tensor, dtype: torch.dtype) -> str:
    device = images.device.type
    gammas = {name: p.detach().clone() for name, p in model.named_parameters() if name.endswith('gamma')}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler(device, enabled=dtype == torch.float16)
    losses = []
    for _ in range(STEPS):
        with torch.autocast(device, dtype):
            loss = F.cross_entropy(model(images).float(), labels)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.detach())
    losses = torch.stack(losses).tolist()
    if not all(loss == loss and abs(loss) != float('inf') for loss in losses):
        raise Disagreement(f'the loss is not finite: {losses}')
    if not losses[-1] < FALLEN * losses[0]:
        raise Disagreement(f'the loss does not fall: {losses[0]:.3f} to {losses[-1]:.3f}')
    still = [name for name, p in model.named_parameters() if name in gammas and torch.equal(p.detach(), gammas[name])]
    if still:
        raise Disagreement(f'{len(still)} of {len(gammas)} LayerScales do not move, {still[0]} among them')
    if not all(torch.isfinite(p).all() for p in model.parameters()):
        raise Disagreement('a parameter is not finite')
    return f'loss {losses[0]:.3f} to {losses[-1]:.3f}'


def distributed(model: nn.Module, images: Tensor, labels: Tensor, backend: str) -> str:
    plain = gradients(copy.deepcopy(model), images, labels)
    with tempfile.TemporaryDirectory() as folder:
        store = dist.FileStore(str(Path(folder) / 'store'), 1)
        dist.init_process_group(backend, store=store, rank=0, world_size=1)
        try:
            found = gradients(DistributedDataParallel(model), images, labels)
        finally:
            dist.destroy_process_group()
    # cuDNN's convolutions need not repeat themselves bit by bit.
    found = errors({name.replace('module.', ''): tensor for name, tensor in found.items()}, plain)
    assert_allowed(found, dict.fromkeys(found, TOLERANCE))
    return f'error of gradients {max(found.values()):.1e}'


def gradients(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    F.cross_entropy(model(images), labels).backward()
    return {f'gradient of {name}': p.grad for name, p in model.named_parameters()}
