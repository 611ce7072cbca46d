"""Exports a trained detector, segmentor or classifier to ONNX, or as a program of torch.export, and checks the file.

Example:
    python tools/deployment/export_onnx.py configs/mask_rcnn/mask-rcnn_attnet-t2_fpn_1x_coco.py epoch_12.pth t2.onnx
"""

import sys
from pathlib import Path

# The project need not be installed to use its tools.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmatconv.engine.cli import report
from mmatconv.engine.cli.config_file import OptionsAction, load_config
from mmatconv.engine.cli.parser import Parser, add_trust, parse
from mmatconv.errors import UserError

FORMATS, TYPES = ('onnx', 'pt2'), ('uint8', 'float32')


def parser() -> Parser:
    parser = Parser('export_onnx.py', description=__doc__.splitlines()[0])
    parser.add_argument('config', help="path of the config, from here or from the project folder, or 'mmatconv::NAME'")
    parser.add_argument('checkpoint', help='path or URL of the checkpoint')
    parser.add_argument('out', type=Path, metavar='OUT', help='file to write, OUT.onnx or OUT.pt2')
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help='height and width of the images; what the test pipeline gives the image compared on if not given',
    )
    parser.add_argument('--dynamic', action='store_true', help='images of any size')
    parser.add_argument('--format', choices=FORMATS, help='a graph of ONNX or a program of torch.export; by the suffix')
    parser.add_argument('--image', type=Path, metavar='FILE', help='image to compare on; the first of the test data')
    parser.add_argument('--input-type', choices=TYPES, default='uint8', help='type of the pixels; default: uint8')
    parser.add_argument('--overwrite', action='store_true', help='replace OUT if it exists')
    parser.add_argument(
        '--benchmark', action='store_true', help='time the model as it is, folded, compiled and exported'
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=OptionsAction, metavar='KEY=VALUE', help='settings to change in the config'
    )
    add_trust(parser)
    return parser


def main(progress: report.Progress) -> None:
    args = parse(parser(), None)
    kind = args.format or args.out.suffix.removeprefix('.')
    if args.out.suffix != f'.{kind}' or kind not in FORMATS:
        raise UserError(f"'{args.out}' must end in .{args.format or 'onnx or .pt2'}")
    if args.out.exists() and not args.overwrite:
        raise UserError(f"'{args.out}' exists already; choose another name, or replace it with --overwrite")
    if not args.out.parent.is_dir():
        raise UserError(f"the folder '{args.out.parent}' does not exist; create it or choose another")
    if args.shape and min(args.shape) < 32:
        raise UserError(f'--shape {args.shape[0]} {args.shape[1]} is too small; give at least 32 32')

    import torch

    from mmatconv.deploy.export.checks import check_packages

    check_packages(onnx=kind == 'onnx')
    config = load_config(args.config, args.cfg_options)
    progress.config = config

    from mmatconv.analysis.build_model import quiet
    from mmatconv.analysis.checked_export import checked_export

    lines = sys.stdout
    say = lambda line: print(line, file=lines, flush=True)  # noqa: E731
    with quiet():
        dtype = getattr(torch, args.input_type)
        options = (args.shape, args.dynamic, args.image, dtype, say)
        model, inputs = checked_export(config, args.checkpoint, args.out, kind, *options)
    print(f"'{args.out}' is written, {args.out.stat().st_size / 2**20:.1f} MB")
    if args.benchmark:
        from mmatconv.analysis.export_times import export_times

        with quiet():
            export_times(args.out, config, model, inputs, say)


if __name__ == '__main__':
    sys.exit(report.run(main))
