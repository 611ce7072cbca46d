"""Mask R-CNN on generated images, as a user trains it: 200 iterations with --amp by torchrun, then evaluation."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from mmatconv.analysis.gpu_check.record import Disagreement, Record
from mmatconv.analysis.gpu_check.target import Target

ROOT = Path(__file__).resolve().parents[3]
CONFIG = ROOT / 'configs' / 'quickstart' / 'mask-rcnn_attnet-xxs_fpn_shapes.py'
# Of two images each: one epoch.
ITERATIONS = 200
LINES = 12


def run(record: Record, target: Target) -> None:
    training, evaluation = f'Mask R-CNN, {ITERATIONS} iterations with --amp', 'Mask R-CNN, evaluation'
    if not target.on_gpu:
        record.needs_gpu(training, evaluation)
        return
    if not CONFIG.exists():
        record.left_out(training, 'configs and tools are in a checkout only')
        return
    with tempfile.TemporaryDirectory() as folder:
        # The config reads data/shapes from where it is run.
        maker = ROOT / 'tools' / 'dataset_tools' / 'make_shapes.py'
        record.check(
            'generated images',
            lambda: tool(folder, sys.executable, maker, 'data/shapes', '--train', 2 * ITERATIONS, '--val', 40),
        )
        options = ['train_cfg.max_epochs=1', 'train_cfg.val_interval=1']
        train, test = (ROOT / 'tools' / f'dist_{name}.sh' for name in ('train', 'test'))
        record.check(
            training,
            lambda: tool(folder, 'bash', train, CONFIG, 1, '--amp', '--work-dir', 'out', '--cfg-options', *options),
        )
        record.check(
            evaluation,
            lambda: tool(folder, 'bash', test, CONFIG, 'out/epoch_1.pth', 1, '--work-dir', 'out'),
        )


def tool(folder: str, *command: object) -> str:
    """Run a tool in a folder to its end; its last line."""
    environment = {**os.environ, 'PYTHON': sys.executable}
    done = subprocess.run(list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True)
    lines = (done.stdout + done.stderr).strip().splitlines()
    print(*(f'    {line}' for line in lines[-LINES:]), sep='\n', flush=True)
    if done.returncode:
        raise Disagreement(f'exit status {done.returncode}: {lines[-1] if lines else "no output"}')
    return lines[-1] if lines else ''
