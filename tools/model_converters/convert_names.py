"""Released AttNet checkpoint <-> checkpoint of mmpretrain's ImageClassifier, head included.

The tools here read both namings. mmpretrain's own tools need the one, the released training code the other.

Examples:
    python tools/model_converters/convert_names.py attnet-t2_in1k.pth attnet-t2_mmpretrain.pth --to mmpretrain
    python tools/model_converters/convert_names.py work_dirs/attnet-t2/epoch_300.pth attnet-t2.pth --to released
"""

import sys
from pathlib import Path

# The project need not be installed to use its tools.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmatconv.engine.cli.convert import convert

if __name__ == '__main__':
    sys.exit(convert(__doc__))
