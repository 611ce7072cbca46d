"""Generates images with a trained model of configs/sit, and writes them, a sheet of them and samples.json.

Example:
    python tools/sample.py configs/sit/sit-hybrid-tiny_one-shapes-16px.py iter_2200.pth --out shapes --guidance 2
"""

import json
import math
import sys
from pathlib import Path

# The project need not be installed to use its tools.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmatconv.datasets.fresh_folder import fresh_folder
from mmatconv.engine.cli import report
from mmatconv.engine.cli.config_file import OptionsAction, load_config
from mmatconv.engine.cli.parser import Parser, add_out, add_trust, parse
from mmatconv.errors import UserError
from mmatconv.generation.flow import SOLVERS


def main(progress: report.Progress) -> None:
    args = parse(_parser(), None)
    for name, what in dict(count='samples', steps='steps', batch='samples').items():
        if getattr(args, name) < 1:
            raise UserError(f'--{name} {getattr(args, name)} is not a number of {what}; give 1 or more')
    if not 0 <= args.seed < 2**63:
        raise UserError(f'--seed {args.seed} is not a seed; give 0 or more')

    from rich.console import Console
    from rich.progress import Progress as Bar

    from mmatconv.analysis.build_model import quiet
    from mmatconv.analysis.samples import Sampler, check_fid, fid, write_samples

    config = load_config(args.config, args.cfg_options)
    progress.config = config
    with fresh_folder(args.out) as folder:
        with quiet():
            sampler = Sampler(config, args.checkpoint)
        latents = sampler.model.latents
        if args.fid:
            check_fid(args.fid, args.fid_weights, latents)
        labels = sampler.labels(args.count, args.classes, args.seed)
        settings = dict(solver=args.solver, steps=args.steps, guidance=args.guidance)
        caption = ', '.join(f'{name} {value}' for name, value in (*settings.items(), ('seed', args.seed)))
        with Bar(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as bar:
            task = bar.add_task('sampling', total=math.ceil(args.count / args.batch) * args.steps)
            batches = sampler.batches(labels, args.seed, args.batch, **settings, progress=lambda: bar.advance(task))
            names = write_samples(folder, batches, labels, latents, caption)
        content = dict(config=str(config.filename), checkpoint=args.checkpoint, **settings, seed=args.seed)
        content['samples'] = [dict(file=name, label=label) for name, label in zip(names, labels.tolist())]
        _write(folder, content)
    print(f"'{args.out}' is written: sheet.png, samples.json and {args.count} {'latents' if latents else 'pictures'}")
    if args.fid:
        content = dict(fid=fid(args.out, args.fid, args.fid_weights), **content)
        _write(args.out, content)
        print(f'FID {content["fid"]:.3f} of {args.count} samples')


def _write(folder: Path, content: dict) -> None:
    (folder / 'samples.json').write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')


def _parser() -> Parser:
    parser = Parser('sample.py', description=__doc__.splitlines()[0])
    parser.add_argument('config', help='path of the config, from here or from the project folder')
    parser.add_argument('checkpoint', help='path or URL of the checkpoint; released SiT checkpoints too')
    add_out(parser, 'samples')
    parser.add_argument('--count', type=int, default=60, metavar='N', help='samples; default: %(default)s')
    parser.add_argument('--steps', type=int, default=50, metavar='N', help='from noise to data; default: %(default)s')
    parser.add_argument(
        '--solver',
        choices=tuple(SOLVERS),
        default='heun',
        help='euler computes one velocity a step, heun two and comes nearer; default: %(default)s',
    )
    parser.add_argument(
        '--guidance', type=float, default=1.0, metavar='W', help='classifier-free guidance; default: 1, none'
    )
    parser.add_argument(
        '--classes', type=int, nargs='+', metavar='K', help='classes, from 0, in turn; default: all of the model'
    )
    parser.add_argument('--seed', type=int, default=0, help='another seed gives other samples; default: 0')
    parser.add_argument('--batch', type=int, default=60, metavar='N', help='computed together; default: %(default)s')
    parser.add_argument('--fid', type=Path, metavar='FOLDER', help='compare with real pictures, by torch-fidelity')
    parser.add_argument('--fid-weights', metavar='FILE', help="torch-fidelity's Inception weights")
    parser.add_argument(
        '--cfg-options', nargs='+', action=OptionsAction, metavar='KEY=VALUE', help='settings to change in the config'
    )
    add_trust(parser)
    return parser


if __name__ == '__main__':
    sys.exit(report.run(main))
