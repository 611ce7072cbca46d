"""The Triton kernels in Triton's interpreter where there is no GPU, in processes that choose it before any import."""

import os
import subprocess
import sys

import pytest
import torch

pytestmark = pytest.mark.newer_torch
GROUPS = {
    'values': ('test_triton.py', 'values_and_gradients'),
    'others': ('test_triton.py', 'not values_and_gradients'),
    'context-to-kernel': ('test_triton_context.py', ''),
    'padded maps': ('test_triton_padded.py', ''),
    'gated linear unit': ('test_triton_gated.py', ''),
    'cast weights': ('test_triton_cast.py', ''),
    'residual sum and norm': ('test_triton_residual.py', ''),
}


@pytest.mark.parametrize('group', [] if torch.cuda.is_available() else GROUPS)
def test_interpreted(group):
    file, keyword = GROUPS[group]
    command = [sys.executable, '-m', 'pytest', '-q', '--no-header', f'tests/test_ops/{file}', '-k', keyword]
    environment = {**os.environ, 'TRITON_INTERPRET': '1', 'OMP_NUM_THREADS': '1'}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert ' passed' in result.stdout
