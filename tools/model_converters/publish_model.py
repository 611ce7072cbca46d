"""Checkpoint of a training -> the files to publish: PREFIX-xxxxxxxx.pth and .safetensors, x the sha256 of each.

Weights only: optimizer, schedulers and logs stay behind; of a training with EMAHook, the averaged weights.

The folder of a run of tools/analysis_tools/study.py and the config of this project that it was made with become one of
the project's own models: weights/NAME-xxxxxxxx.safetensors, NAME.log and NAME.md, with its scores in the metafile.

Examples:
    python tools/model_converters/publish_model.py work_dirs/attnet-t2/epoch_12.pth mask-rcnn_attnet-t2_fpn_1x_coco
    python tools/model_converters/publish_model.py work_dirs/study/camvid/runs/RUN configs/study/NAME.py
"""

import sys
from pathlib import Path

# The project need not be installed to use its tools.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmatconv.engine.cli.convert import publish


def publish_run(run: Path, config: str) -> tuple:
    from mmatconv.analysis.publish.run import publish_run

    return publish_run(run, config)


if __name__ == '__main__':
    sys.exit(publish(__doc__, publish_run))
