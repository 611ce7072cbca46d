"""Every test runs from the project's root, as a user would, so that configs find their paths."""

import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
# Threads that wait must not keep the cores busy that other processes of the same test need.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
# The package need not be installed: tests and the processes they start import it from here.
os.environ['PYTHONPATH'] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])])


@pytest.fixture(autouse=True)
def in_project_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(params=['cpu', 'cuda'] if torch.cuda.is_available() else ['cpu'])
def device(request):
    """The CPU, and the GPU where torch sees one; float32 is float32 on both."""
    from mmatconv.analysis.benchmark.agreement import without_tf32

    with without_tf32():
        yield request.param


@pytest.fixture
def large_maps(monkeypatch):
    """The small maps of a test are computed as large ones are: the sizes from which that is faster are set to 0."""
    monkeypatch.setattr('mmatconv.ops.cpu.linear.FEWEST_PRODUCTS', 0)
    monkeypatch.setattr('mmatconv.layers.context_pool.FEW_ELEMENTS', 0)
    monkeypatch.setattr('mmatconv.ops.dynamic_conv.grouped.TINY_MAP', 0)


@pytest.fixture(params=['small', 'large'])
def small_and_large_maps(request):
    """The test runs with the sizes that ship, and as for ``large_maps``."""
    if request.param == 'large':
        request.getfixturevalue('large_maps')
