"""Stage 8: AttNet-T2 on two images of 800 x 1344: ours, the released code, a static depthwise convolution."""

from collections.abc import Callable, Sequence

import torch

from mmatconv.analysis.benchmark.agreement import check_agreement
from mmatconv.analysis.benchmark.backbone_variants import RELEASED, variants
from mmatconv.analysis.benchmark.case import Case, Setting
from mmatconv.analysis.benchmark.memory import held_bytes, peak_growth
from mmatconv.analysis.benchmark.random_weights import randomize
from mmatconv.analysis.benchmark.runs import Run
from mmatconv.analysis.benchmark.timing import interleave, stopwatch
from mmatconv.analysis.gpu_check.graph_timing import captured
from mmatconv.analysis.gpu_check.record import Record
from mmatconv.analysis.gpu_check.target import Target
from mmatconv.backbones import AttNet

COLUMNS = ('dtype', 'what', 'how', 'ours, ms', 'released, ms', 'static, ms', 'ours is x times as fast', 'ours, GB',
           'released, GB')  # fmt: skip
NAMES = ('ours', RELEASED, 'static')


def attnet_case(mode: str, dtype: str, target: Target) -> Case:
    """AttNet-T2 on the GPU, a small AttNet on a CPU."""
    arch, size = ('T2', (800, 1344)) if target.on_gpu else (dict(depths=(1, 1), dims=(8, 12), exp_rates=2), (32, 48))
    setting = Setting(mode, size, 2, dtype, 'channels_last', target.device)
    x = setting.random(3)
    candidates: Sequence = list(variants(lambda options: randomize(AttNet(arch, **options)), lambda m: m, x, setting))
    return Case('backbone', 'attnet', setting, RELEASED, candidates, autocast=True)


def run(record: Record, target: Target) -> None:
    for dtype in ('bfloat16', 'float32'):
        for mode in ('forward', 'backward', 'step'):
            case = attnet_case(mode, dtype, target)
            runs = {candidate.name: Run(candidate, case) for candidate in case.candidates}
            what = f'AttNet, {mode}, {dtype}'
            record.check(f'{what}, agrees with released', lambda c=case, r=runs: f'{check_agreement(c, r)["ours"]:.1e}')
            if not target.on_gpu:
                record.needs_gpu(f'{what}, times')
                continue
            record.check(f'{what}, times', lambda c=case, r=runs: times(record, c, r))
            del case, runs
            torch.cuda.empty_cache()


def times(record: Record, case: Case, runs: dict[str, Run]) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    memory = {}
    for name in NAMES:
        runs[name]()
        memory[name] = held_bytes(runs[name].held()) + peak_growth(runs[name], 'cuda')
    ways: dict[str, Callable[[], dict]] = {'eager': lambda: {name: runs[name] for name in NAMES}}
    # An optimizer is captured with options of its own; the rest of a step is 'backward'.
    if case.setting.mode != 'step':
        ways['graph'] = lambda: {name: captured(runs[name]) for name in NAMES}
    rows = []
    for way, make in ways.items():
        found = {name: t.median for name, t in interleave(make(), 5, 2, stopwatch('cuda')).items()}
        milliseconds = [f'{1e3 * found[name]:.2f}' for name in NAMES]
        gigabytes = [f'{memory[name] / 1e9:.2f}' for name in ('ours', RELEASED)]
        ratio = f'{found[RELEASED] / found["ours"]:.2f}'
        rows.append([case.setting.dtype, case.setting.mode, way, *milliseconds, ratio, *gigabytes])
    record.table(f'{case.title}, TF32 allowed', COLUMNS, rows)
