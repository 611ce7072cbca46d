"""Checkpoint of mmpretrain's ImageClassifier with AttNet -> the released form.

Example:
    python tools/model_converters/mmpretrain_to_attnet.py work_dirs/attnet-t2/epoch_300.pth attnet-t2.pth
"""

import sys
from pathlib import Path

# The project need not be installed to use its tools.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmatconv.deploy.publishing import mmpretrain_to_attnet
from mmatconv.engine.cli.convert import convert

if __name__ == '__main__':
    sys.exit(convert(mmpretrain_to_attnet, __doc__))
