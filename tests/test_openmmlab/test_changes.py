"""Each change of another package is made by a call, once, and names itself at debug level."""

from collections import OrderedDict

import pytest
import torch
from mmcv.ops.nms import NMSop, nms
from mmcv.ops.roi_align import RoIAlign, RoIAlignFunction
from mmengine.dist import get_rank, master_only, utils
from mmengine.runner.checkpoint import CheckpointLoader, load_from_local

from mmatconv.checkpoint import reader
from mmatconv.openmmlab import padding_guard
from mmatconv.openmmlab.bfloat16_ops import support_bfloat16_on_cpu
from mmatconv.openmmlab.checkpoint_loader import use_safe_loader
from mmatconv.openmmlab.config_packages import register_config_packages
from mmatconv.openmmlab.padding_guard import guard_detectors
from mmatconv.openmmlab.roi_align import guard_roi_align
from mmatconv.openmmlab.torch_load import guard_torch_load
from mmatconv.openmmlab.visualizer import every_process_draws


@pytest.fixture
def unchanged(monkeypatch):
    """The packages as they come; what a test changes is put back."""
    for owner in (RoIAlignFunction, NMSop):
        monkeypatch.setattr(owner, 'forward', staticmethod(getattr(owner.forward, '__wrapped__', owner.forward)))
    monkeypatch.setattr(RoIAlign, 'forward', getattr(RoIAlign.forward, '__wrapped__', RoIAlign.forward))
    monkeypatch.setattr(padding_guard, '_watching', False)
    monkeypatch.setattr(torch.nn.modules.module, '_global_module_registration_hooks', OrderedDict())
    monkeypatch.setattr(torch, 'load', reader._torch_load)
    monkeypatch.setattr(CheckpointLoader, '_schemes', {**CheckpointLoader._schemes, '': load_from_local})


CHANGES = {
    'RoIAlignFunction.forward': guard_roi_align,
    'NMSop.forward, RoIAlign.forward': support_bfloat16_on_cpu,
    "torch's module registration": guard_detectors,
    'torch.load': guard_torch_load,
    "CheckpointLoader's scheme ''": use_safe_loader,
}


@pytest.mark.parametrize('change', CHANGES)
def test_a_change_names_itself_once(unchanged, caplog, change):
    with caplog.at_level('DEBUG', logger='mmatconv'):
        CHANGES[change]()
        CHANGES[change]()
    messages = [record.getMessage() for record in caplog.records if record.name == 'mmatconv']
    assert len([message for message in messages if message.startswith(f'changed: {change} (')]) == 1


def test_config_packages_are_registered_once(caplog):
    with caplog.at_level('DEBUG', logger='mmatconv'):
        register_config_packages()
    assert not caplog.records


def test_bfloat16_on_the_cpu_is_computed_in_float32(unchanged):
    boxes = torch.tensor([[0, 0, 8, 8], [0, 0, 8, 7], [8, 8, 16, 16]], dtype=torch.bfloat16)
    scores = torch.tensor([0.5, 0.75, 0.25], dtype=torch.bfloat16)
    align = RoIAlign(2, sampling_ratio=2)
    x = torch.randn(1, 2, 8, 8, dtype=torch.bfloat16, requires_grad=True)
    rois = torch.tensor([[0.0, 1, 1, 6, 5]])
    with pytest.raises(RuntimeError):
        align(x, rois)
    expected = align(x.float(), rois), nms(boxes.float(), scores.float(), 0.5)[1]
    support_bfloat16_on_cpu()
    found = align(x, rois), nms(boxes, scores, 0.5)[1]
    assert found[0].dtype == torch.bfloat16
    assert torch.equal(found[0], expected[0].bfloat16()) and torch.equal(found[1], expected[1])
    found[0].float().sum().backward()
    assert x.grad.dtype == torch.bfloat16 and x.grad.sum() > 0
    assert torch.equal(align(x.float(), rois), expected[0])


def test_every_process_draws_and_only_then(monkeypatch):
    monkeypatch.setattr(utils, 'get_rank', lambda group=None: 1)
    draw = master_only(lambda: 'drawn')
    assert draw() is None
    with pytest.raises(KeyError), every_process_draws():
        assert draw() == 'drawn'
        raise KeyError
    assert draw() is None and get_rank() == 0
