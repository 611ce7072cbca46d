"""Time and memory of ATConv beside its candidates, in turns and in one process.

Example:
    python tools/analysis_tools/benchmark.py --level operator --mode forward backward
    python tools/analysis_tools/benchmark.py --level block --plot figure4.png
    python tools/analysis_tools/benchmark.py --level backbone --models attnet-t2 --size 800 1280 --fold
    python tools/analysis_tools/benchmark.py --level detector --models mask-rcnn_atconv-pvt-t --size 800 1280
    python tools/analysis_tools/benchmark.py --level traffic
"""

import argparse
import json
import os
import shlex
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

# The project need not be installed to use its tools.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmatconv.engine.cli import report
from mmatconv.engine.cli.parser import Parser
from mmatconv.errors import UserError

if TYPE_CHECKING:
    from mmatconv.analysis.benchmark.case import Setting
    from mmatconv.analysis.benchmark.measure import Outcome

LEVELS = ('operator', 'block', 'backbone', 'detector', 'traffic', 'host')
# Timed levels only; 'traffic' and 'host' always take forward and backward as a GPU does.
TIMED_ONLY = ('mode', 'reference', 'compile', 'fold', 'mask_padding', 'check', 'plot')
MODES = ('forward', 'backward', 'step')


def parser() -> Parser:
    """The options."""
    result = Parser('benchmark.py', description=__doc__.splitlines()[0])
    add = result.add_argument
    add('--level', choices=LEVELS, required=True, help='what is compared')
    add(
        '--models',
        nargs='+',
        metavar='NAME',
        help='models of level backbone, detector, traffic or host, candidates of level operator or block; an unknown '
        'one lists them',
    )
    add('--mode', nargs='+', choices=MODES, help='step: training step; default: forward')
    add(
        '--size',
        nargs='+',
        action='append',
        metavar='N',
        help='height and width in pixels of the image, or of the map at level operator and block; one number for a '
        'square; give it again for more sizes',
    )
    add('--batch', type=positive, metavar='N', help='samples')
    add('--channels', type=positive, default=128, metavar='N', help='of the map at level operator and block; 128')
    add('--kernel-size', type=positive, default=3, metavar='N', help='at level operator and block; default: 3')
    add('--rois', nargs=2, type=positive, default=[1000, 100], metavar='N', help='of box and mask heads; 1000 100')
    add('--dtype', choices=('float32', 'bfloat16', 'float16'), help='default: float32; traffic, host: bfloat16')
    add('--memory-format', nargs='+', choices=('contiguous', 'channels_last'), help='of the input')
    add('--device', choices=('cpu', 'cuda'), default='cpu', help='cuda is ROCm too; default: cpu')
    add('--threads', type=positive, metavar='N', help='CPU threads; default: as torch chooses')
    add('--repeats', type=positive, default=10, metavar='N', help='readings of each candidate; default: 10')
    add('--warmup', type=positive, default=2, metavar='N', help='calls before the first reading; default: 2')
    add('--reference', metavar='NAME', help='the candidate that ratios are to')
    add('--compile', action='store_true', help='every candidate through torch.compile')
    add('--fold', action='store_true', help='add our backbones folded for inference')
    add('--mask-padding', action='store_true', help='add ours with mask_padding, on padded images and on whole ones')
    add('--check', action='store_true', help='also at twice the height and width: is the time per pixel the same?')
    add('--json', metavar='FILE.json', help='write everything measured to a new file')
    add('--plot', metavar='FILE.png', help='draw latency and memory over resolution to a new file')
    return result


def positive(text: str) -> int:
    """A positive whole number."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a positive whole number")
    return int(text)


def main(progress: report.Progress) -> None:
    args = parser().parse_args()
    sizes = [read_size(values) for values in args.size] if args.size else None
    check_new_file('--json', args.json, '.json')
    check_new_file('--plot', args.plot, '.png')

    import torch

    if args.device == 'cuda' and not torch.cuda.is_available():
        raise UserError('--device cuda needs a GPU, but torch sees none; use --device cpu')
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    if args.level in ('traffic', 'host'):
        find_without_gpu(args, sizes)
        return
    outcomes = measure_all(args, sizes)
    show(outcomes, args)


def read_size(values: Sequence[str]) -> tuple[int, int]:
    """Height and width from one or two numbers.

    Raises:
        UserError: It is something else.
    """
    if len(values) > 2 or not all(value.isdecimal() and int(value) > 0 for value in values):
        raise UserError(
            f"--size '{' '.join(values)}' is not a size; give height and width as positive whole numbers, and --size "
            'again for another one'
        )
    return int(values[0]), int(values[-1])


def check_new_file(option: str, name: str | None, ending: str) -> None:
    """Checks a file to be written before hours of measuring.

    Raises:
        UserError: It exists, has another ending, or its folder does not exist or cannot be written.
    """
    if name is None:
        return
    if not name.endswith(ending):
        raise UserError(f"{option} '{name}' must end in {ending}")
    if os.path.exists(name):
        raise UserError(f"{option} '{name}' exists already; delete it or choose another name")
    folder = os.path.dirname(name) or '.'
    if not os.access(folder, os.W_OK):
        raise UserError(f"{option}: folder '{folder}' does not exist or cannot be written; choose another one")


def measure_all(args: argparse.Namespace, sizes: list[tuple[int, int]] | None) -> list['Outcome']:
    """Measure case after case; a line or a bar on stderr shows how far it is."""
    from rich.console import Console
    from rich.progress import Progress

    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        from mmatconv.analysis.benchmark.levels import LEVELS as levels
        from mmatconv.analysis.benchmark.levels import check_models, make_cases, settings
        from mmatconv.analysis.benchmark.linear_cost import quadrupled
        from mmatconv.analysis.benchmark.measure import measure
        from mmatconv.analysis.benchmark.timing import stopwatch

    level = levels[args.level]
    if args.check:
        sizes = quadrupled(sizes or level.sizes[:1])
    all_settings = settings(level, base_setting(args), args.mode or ['forward'], sizes, args.batch, args.memory_format)
    total = len(check_models(level, args.models)) * len(all_settings)
    outcomes: list[Outcome] = []
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        for case in make_cases(level, all_settings, args.models, args.reference):
            place = f'{len(outcomes) + 1} of {total}: {case.title}'
            if bar.disable:
                print(place, file=sys.stderr, flush=True)
            timed = sum(candidate.timed for candidate in case.candidates)
            task = bar.add_task(place, total=timed * args.repeats)
            outcomes.append(
                measure(case, args.repeats, args.warmup, stopwatch(args.device), lambda t=task: bar.advance(t))
            )
            # Weights and maps of this case make room for the next.
            case.candidates = ()
    return outcomes


def base_setting(args: argparse.Namespace) -> 'Setting':
    """What all cases have in common."""
    from mmatconv.analysis.benchmark.case import Setting

    return Setting(
        dtype=args.dtype or 'float32',
        device=args.device,
        channels=args.channels,
        kernel_size=args.kernel_size,
        rois=tuple(args.rois),
        fold=args.fold,
        mask_padding=args.mask_padding,
        compiled=args.compile,
    )


def find_without_gpu(args: argparse.Namespace, sizes: list[tuple[int, int]] | None) -> None:
    """Print what a training step costs a GPU and its CPU."""
    for name in TIMED_ONLY:
        if getattr(args, name):
            raise UserError(f'--{name.replace("_", "-")} does not exist at level {args.level}; leave it out')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        from mmatconv.analysis.benchmark import gpu_levels
        from mmatconv.analysis.benchmark.levels import LEVELS as levels
        from mmatconv.analysis.benchmark.levels import check_models

    names = check_models(levels['backbone'], args.models) if args.models else ['attnet-t2']
    base = replace(base_setting(args), dtype=args.dtype or 'bfloat16', batch=args.batch or 2, device='cpu')
    all_settings = [
        replace(base, size=size, memory_format=memory_format)
        for memory_format in args.memory_format or ['contiguous']
        for size in sizes or [gpu_levels.SIZES[args.level]]
    ]
    found = []
    for name in names:
        for setting in all_settings:
            print(f'{len(found) + 1} of {len(names) * len(all_settings)}: {name}', file=sys.stderr, flush=True)
            found.append(gpu_levels.find(args.level, name, setting, args.repeats, args.warmup))
    tables = [part for entry in found for part in (entry.title, *entry.tables)]
    about = print_all(args, [*tables, gpu_levels.LEGEND[args.level]])
    if args.json:
        cases = [dict(level=args.level, title=entry.title, results=entry.results) for entry in found]
        write_json(args.json, dict(about, cases=cases))


def show(outcomes: list['Outcome'], args: argparse.Namespace) -> None:
    """Print tables and legend; write the files that were asked for."""
    from mmatconv.analysis.benchmark import linear_cost, render

    growths = list(linear_cost.growths(outcomes)) if args.check else []
    tables = [part for outcome in outcomes for part in (outcome.case.title, render.table(outcome))]
    if growths:
        tables += ['time per pixel at 4 times the pixels', render.growth_table(growths)]
    legend = [render.LEGEND, render.OPERATOR_LEGEND] if args.level == 'operator' else [render.LEGEND]
    left_out = dict.fromkeys(reason for outcome in outcomes for reason in outcome.case.left_out)
    about = print_all(args, [*tables, ' '.join(legend), *(f'Left out: {reason}.' for reason in left_out)])
    if args.json:
        linear = [dict(vars(growth), ratio=growth.ratio, linear=growth.linear) for growth in growths]
        write_json(args.json, dict(about, cases=list(map(render.as_dict, outcomes)), linear_cost=linear))
    if args.plot:
        from mmatconv.analysis.benchmark.plot import plot

        plot(outcomes, args.plot, f'{about["command"]}\n{described(about)}')


def print_all(args: argparse.Namespace, parts: Sequence[object]) -> dict:
    """Print texts and tables, then command, machine and versions, which are returned."""
    from rich.console import Console

    from mmatconv.analysis.benchmark import machine

    command = shlex.join(['python', 'tools/analysis_tools/benchmark.py', *sys.argv[1:]])
    about = dict(command=command, machine=machine.machine(args.device), versions=machine.versions())
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    console.print(*parts, f'command: {command}', described(about), sep='\n', markup=False)
    return about


def described(about: dict) -> str:
    """Machine and versions in a line."""
    return ', '.join(f'{key} {value}' for key, value in {**about['machine'], **about['versions']}.items())


def write_json(name: str, found: dict) -> None:
    Path(name).write_text(json.dumps(found, indent=1) + '\n', encoding='utf-8')


if __name__ == '__main__':
    sys.exit(report.run(main))
