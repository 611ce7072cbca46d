"""Write configs/README.md, the list of all configs with the paper's results and ours, from the metafiles.

Example:
    python tools/analysis_tools/model_zoo.py
"""

import argparse
import sys
from pathlib import Path

# The project need not be installed to use its tools.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmatconv.analysis.model_zoo import render
from mmatconv.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--root', type=Path, default=ROOT, help='folder of model-index.yml')
    args = parser.parse_args()
    try:
        text = render(args.root)
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    path = args.root / 'configs' / 'README.md'
    path.write_text(text)
    print(f'{path} written')
    return 0


if __name__ == '__main__':
    sys.exit(main())
