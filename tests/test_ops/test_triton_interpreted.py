"""The Triton kernels in Triton's interpreter where there is no GPU, in processes that choose it before any import."""

import os
import subprocess
import sys

import pytest
import torch

pytestmark = pytest.mark.newer_torch
GROUPS = {'values': 'values_and_gradients', 'others': 'not values_and_gradients'}


@pytest.mark.parametrize('group', [] if torch.cuda.is_available() else GROUPS)
def test_interpreted(group):
    command = [
        sys.executable,
        '-m',
        'pytest',
        '-q',
        '--no-header',
        'tests/test_ops/test_triton.py',
        '-k',
        GROUPS[group],
    ]
    environment = {**os.environ, 'TRITON_INTERPRET': '1', 'OMP_NUM_THREADS': '1'}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert ' passed' in result.stdout
