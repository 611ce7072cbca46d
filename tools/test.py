"""Evaluates a checkpoint with a config: tools/test.py CONFIG CHECKPOINT [options]; --help lists them."""

import sys
from pathlib import Path

# The project need not be installed to use its tools.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmatconv.engine.cli.test import test
from mmatconv.engine.launch.process_group import exit_process

if __name__ == '__main__':
    exit_process(test())
