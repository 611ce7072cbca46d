"""Train competitors equally, choose a learning rate for each, and compare them over several seeds.

Example:
    python tools/analysis_tools/study.py configs/study/camvid.yml --out work_dirs/study
    python tools/analysis_tools/study.py configs/study/camvid.yml --out work_dirs/study --collect --doc docs/study.md
"""

import sys
import time
from pathlib import Path

# The project need not be installed to use its tools.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmatconv.engine.cli import report
from mmatconv.engine.cli.parser import Parser
from mmatconv.errors import UserError


def main(progress: report.Progress) -> None:
    parser = Parser('study.py', description=__doc__.splitlines()[0])
    parser.add_argument('study', help='protocol, a .yml as in configs/study')
    parser.add_argument('--out', required=True, metavar='FOLDER', help='runs and results; what is there stays')
    parser.add_argument('--jobs', type=int, metavar='N', help='runs at a time; default: one a GPU, or one a CPU core')
    parser.add_argument('--hours', type=float, metavar='H', help='start no run after this time; default: no end')
    parser.add_argument('--collect', action='store_true', help='run nothing, collect what is there')
    parser.add_argument(
        '--earlier', metavar='FILE.json', help='results.json of the same study from another session or machine'
    )
    parser.add_argument('--time', action='store_true', help='time all competitors again, on an idle machine')
    parser.add_argument('--doc', metavar='FILE.md', help='write table and figure into this page, which names the study')
    args = parser.parse_args()
    if args.jobs is not None and args.jobs < 1:
        raise UserError(f'--jobs must be at least 1, but is {args.jobs}')
    progress.advice = 'call the same command again to go on'

    from mmatconv.analysis.study.console import show

    show(args, time.monotonic())


if __name__ == '__main__':
    sys.exit(report.run(main))
