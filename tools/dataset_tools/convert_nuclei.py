"""Writes the nuclei of the Data Science Bowl 2018 as a COCO data set; docs/own_data.md says where to get it.

Example:
    python tools/dataset_tools/convert_nuclei.py stage1_train data/nuclei
"""

import sys
from pathlib import Path

# The project need not be installed to use its tools.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmatconv.engine.cli.convert_dataset import convert_dataset

if __name__ == '__main__':
    sys.exit(convert_dataset('nuclei', __doc__))
