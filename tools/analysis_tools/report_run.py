"""Table of the newest evaluation of a work dir, plot of its training, contact sheet of its pictures.

Example:
    python tools/analysis_tools/report_run.py work_dirs/quickstart/mask-rcnn --plot curves.png
"""

import argparse
import sys
from pathlib import Path

# The project need not be installed to use its tools.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmatconv.analysis.contact_sheet import contact_sheet
from mmatconv.analysis.run_report import plot_run, read_evaluation, read_run
from mmatconv.engine.console.metrics import headline, table
from mmatconv.engine.hooks.show_dir import SCORE_THRESHOLD
from mmatconv.errors import UserError

PICTURES = 12
HEADLINES = ('coco/bbox_mAP', 'coco/segm_mAP', 'mIoU', 'accuracy/top1')


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('work_dir', help='work dir of a training that was evaluated into it')
    parser.add_argument('--plot', metavar='FILE.png', help='plot losses and metrics of the training')
    parser.add_argument('--pictures', metavar='FOLDER', help='folder that tools/test.py --show-dir wrote')
    parser.add_argument('--sheet', metavar='FILE.png', help='put the first 12 of --pictures on one sheet')
    parser.add_argument(
        '--headings', nargs='+', default=(), metavar='TEXT', help='what stands above the parts of each picture'
    )
    parser.add_argument('--quiet', action='store_true', help='print no table')
    args = parser.parse_args()
    try:
        report(args)
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


def report(args: argparse.Namespace) -> None:
    metrics = read_evaluation(args.work_dir)
    if args.plot:
        plot_run(read_run(args.work_dir), args.plot, Path(args.work_dir).name)
    if args.sheet:
        pictures = sorted(p for p in Path(args.pictures or '').rglob('*') if p.suffix.lower() in ('.jpg', '.png'))
        if not pictures:
            raise UserError(f"--pictures '{args.pictures}' holds no pictures; run tools/test.py --show-dir first.")
        contact_sheet(pictures[:PICTURES], args.sheet, tuple(args.headings), caption(metrics))
    if not args.quiet:
        print(table(metrics, Path(args.work_dir).name))


def caption(metrics: dict[str, float]) -> str:
    """What the sheet shows: the threshold where predictions have a score each, and the scores of the whole set."""
    scores = [headline({name: value}) for name, value in metrics.items() if name in HEADLINES]
    shown = f'Predictions with a score above {SCORE_THRESHOLD}; ' if any('AP' in score for score in scores) else ''
    return f'{shown}{", ".join(scores)} over all images of the evaluation.' if scores else ''


if __name__ == '__main__':
    sys.exit(main())
