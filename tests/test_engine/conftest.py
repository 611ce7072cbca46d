"""The Runner of these tests stays on the CPU, where a machine has a GPU too."""

import pytest


@pytest.fixture(autouse=True)
def runner_on_cpu(monkeypatch):
    """Runs are compared bit by bit here, and their data sets note what they load, on models of a few numbers."""
    monkeypatch.setattr('mmengine.device.utils.DEVICE', 'cpu')
