"""Write configs/README.md and the quickstart's results in README.md and docs/*.md, from the metafiles.

Examples:
    python tools/analysis_tools/model_zoo.py
    python tools/analysis_tools/model_zoo.py --quickstart work_dirs/quickstart
"""

import argparse
import sys
from pathlib import Path

# The project need not be installed to use its tools.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmatconv.analysis.model_zoo import render_pages
from mmatconv.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--root', type=Path, default=ROOT, help='folder of model-index.yml')
    parser.add_argument(
        '--quickstart',
        type=Path,
        metavar='FOLDER',
        help='first take the scores and the picture from a run of make quickstart',
    )
    args = parser.parse_args()
    try:
        if args.quickstart:
            from mmatconv.analysis.quickstart_results import take_results

            take_results(args.quickstart, args.root)
        pages = render_pages(args.root)
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    for path, text in pages.items():
        path.write_text(text)
        print(f'{path} written')
    return 0


if __name__ == '__main__':
    sys.exit(main())
