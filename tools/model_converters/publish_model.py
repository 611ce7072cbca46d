"""Checkpoint of a training -> the files to publish: PREFIX-xxxxxxxx.pth and .safetensors, x the sha256 of each.

Weights only: optimizer, schedulers and logs stay behind; of a training with EMAHook, the averaged weights.

Example:
    python tools/model_converters/publish_model.py work_dirs/attnet-t2/epoch_12.pth mask-rcnn_attnet-t2_fpn_1x_coco
"""

import sys
from pathlib import Path

# The project need not be installed to use its tools.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmatconv.engine.cli.convert import publish

if __name__ == '__main__':
    sys.exit(publish(__doc__))
