"""The Triton kernels compile for NVIDIA and AMD GPUs, which needs none, and hold all they carry in registers."""

import json
import os
import subprocess
import sys

import pytest


def compiled(*arguments):
    """Rows of what compile_kernels.py prints."""
    environment = {name: value for name, value in os.environ.items() if name != 'TRITON_INTERPRET'}
    command = [sys.executable, 'tests/test_ops/compile_kernels.py', '--json', '--dtypes', 'bf16', '--sizes', '3']
    result = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.newer_torch
@pytest.mark.slow
def test_the_operator_takes_few_instructions():
    rows = compiled('--gpus', 'sm_90', 'gfx942', '--kernels', 'convolve_kernel', 'gradients_kernel')
    assert {row['spilled bytes'] for row in rows} == {0}
    counts = {
        (row['kernel'], row['format'], row['sizes']): row['instructions an element']
        for row in rows
        if row['gpu'] == 'sm_90'
    }
    # 9 and 18 of them multiply and add. Those of the padding mask come on top in the contiguous format, where a load
    # may hold both sides of its edge, and in the gradients.
    limits = {('convolve_kernel', 'channels_last'): 17, ('convolve_kernel', 'contiguous'): 19}
    limits |= {('gradients_kernel', 'channels_last'): 37, ('gradients_kernel', 'contiguous'): 36}
    assert len(counts) == 8
    for (kernel, memory_format, _), count in counts.items():
        assert count <= limits[kernel, memory_format], (kernel, memory_format)
    assert counts['gradients_kernel', 'channels_last', False] <= 34
    assert counts['gradients_kernel', 'contiguous', False] <= 29


@pytest.mark.newer_torch
def test_kernels_of_3x3_compile_without_spills_and_load_vectors():
    rows = compiled('--gpus', 'sm_80', 'gfx90a')
    assert {row['spilled bytes'] for row in rows} == {0}
    # In channels_last four channels a load for the gradients of both convolutions, 16 bytes for all else of a map.
    # What a kernel mostly writes is what counts for the one that reads next to nothing.
    sides = {row['kernel']: 'store' if row['kernel'] == 'spread_kernel' else 'load' for row in rows}
    # Sizes of padded maps are 32 bits.
    kinds = [row for row in rows if not (row['sizes'] and row['format'] == 'contiguous')]
    widest = {(row['kernel'], row['format'], row[f'widest {sides[row["kernel"]]}, bits']) for row in kinds}
    assert widest == {
        ('convolve_kernel', 'contiguous', 128),
        ('gradients_kernel', 'contiguous', 128),
        ('convolve_kernel', 'channels_last', 128),
        ('gradients_kernel', 'channels_last', 64),
        ('pool_kernel', 'contiguous', 16),
        ('pool_kernel', 'channels_last', 128),
        ('spread_kernel', 'contiguous', 16),
        ('spread_kernel', 'channels_last', 128),
        ('generate_kernel', 'channels_last', 16),
        ('generate_gradients_kernel', 'channels_last', 16),
        ('gate_kernel', 'channels_last', 128),
        ('gate_gradients_kernel', 'channels_last', 128),
        ('conv_gate_kernel', 'channels_last', 128),
        ('conv_gate_gradients_kernel', 'channels_last', 64),
        ('conv_input_gradient_kernel', 'channels_last', 128),
        ('scale_kernel', 'channels_last', 32),
        ('residual_norm_kernel', 'channels_last', 128),
        ('residual_norm_gradients_kernel', 'channels_last', 128),
    }
