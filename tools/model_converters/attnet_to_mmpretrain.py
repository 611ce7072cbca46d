"""Released AttNet checkpoint -> checkpoint of mmpretrain's ImageClassifier, head included.

Example:
    python tools/model_converters/attnet_to_mmpretrain.py attnet-t2_in1k.pth attnet-t2_mmpretrain.pth
"""

import sys
from pathlib import Path

# The project need not be installed to use its tools.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmatconv.deploy.publishing import attnet_to_mmpretrain
from mmatconv.engine.cli.convert import convert

if __name__ == '__main__':
    sys.exit(convert(attnet_to_mmpretrain, __doc__))
