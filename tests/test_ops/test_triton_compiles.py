"""The Triton kernels compile for NVIDIA and AMD GPUs, which needs none, and hold all they carry in registers."""

import json
import os
import subprocess
import sys

import pytest


@pytest.mark.newer_torch
def test_kernels_of_3x3_compile_without_spills_and_load_vectors():
    environment = {name: value for name, value in os.environ.items() if name != 'TRITON_INTERPRET'}
    script = [sys.executable, 'tests/test_ops/compile_kernels.py', '--json']
    command = [*script, '--gpus', 'sm_80', 'gfx90a', '--dtypes', 'bf16', '--sizes', '3']
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row['spilled bytes'] for row in rows] == [0] * 56
    # In channels_last four channels a load for the convolution and for the gradients of the static one, two for the
    # gradients of the dynamic one, 16 bytes for all else of a map.
    # What a kernel mostly writes is what counts for the one that reads next to nothing.
    sides = {row['kernel']: 'store' if row['kernel'] == 'spread_kernel' else 'load' for row in rows}
    # Sizes of padded maps are 32 bits.
    kinds = [row for row in rows if not (row['sizes'] and row['format'] == 'contiguous')]
    widest = {(row['kernel'], row['format'], row[f'widest {sides[row["kernel"]]}, bits']) for row in kinds}
    assert widest == {
        ('convolve_kernel', 'contiguous', 16),
        ('gradients_kernel', 'contiguous', 16),
        ('convolve_kernel', 'channels_last', 64),
        ('gradients_kernel', 'channels_last', 32),
        ('pool_kernel', 'contiguous', 16),
        ('pool_kernel', 'channels_last', 128),
        ('spread_kernel', 'contiguous', 16),
        ('spread_kernel', 'channels_last', 128),
        ('generate_kernel', 'channels_last', 16),
        ('generate_gradients_kernel', 'channels_last', 16),
        ('gate_kernel', 'channels_last', 128),
        ('gate_gradients_kernel', 'channels_last', 128),
        ('conv_gate_kernel', 'channels_last', 128),
        ('conv_gate_gradients_kernel', 'channels_last', 128),
        ('conv_gradients_kernel', 'channels_last', 64),
        ('scale_kernel', 'channels_last', 32),
        ('residual_norm_kernel', 'channels_last', 128),
        ('residual_norm_gradients_kernel', 'channels_last', 128),
    }
