"""mmcv as tools/setup_env.sh compiles it: several sources in one file, and still every operator with its numbers."""

import re
from pathlib import Path

import mmcv
import mmcv.ops
import pytest
import torch
import torchvision
from mmcv import _ext

# Both sides compute in float64 and differ in the order of their sums only.
CLOSE = dict(rtol=1e-9, atol=1e-9)


def boxes(count, size=32.0):
    corner = torch.rand(count, 2, dtype=torch.float64) * size / 2
    return torch.cat([corner, corner + 1 + torch.rand(count, 2, dtype=torch.float64) * size / 2], dim=1)


def test_every_operator_that_the_sources_declare_is_there():
    (source,) = Path(mmcv.__file__).parent.rglob('pybind.cpp')
    declared = set(re.findall(r'm\.def\(\s*"(\w+)"', source.read_text()))
    assert len(declared) > 100
    assert {name for name in dir(_ext) if not name.startswith('__')} == declared
    assert not [name for name in mmcv.ops.__all__ if not hasattr(mmcv.ops, name)]


@pytest.mark.parametrize('ratio', [0, 2])
@pytest.mark.parametrize('aligned', [True, False])
def test_roi_align_equals_torchvision(ratio, aligned):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 16, 17, dtype=torch.float64, requires_grad=True)
    rois = torch.cat([torch.tensor([[0.0], [1.0], [1.0], [0.0]]).double(), boxes(4)], dim=1)
    ours = mmcv.ops.roi_align(x, rois, (7, 5), 0.5, ratio, 'avg', aligned)
    theirs = torchvision.ops.roi_align(x, rois, (7, 5), 0.5, ratio or -1, aligned)
    weight = torch.randn_like(ours)
    torch.testing.assert_close(ours, theirs, **CLOSE)
    torch.testing.assert_close(torch.autograd.grad(ours, x, weight), torch.autograd.grad(theirs, x, weight), **CLOSE)


def test_nms_equals_torchvision():
    torch.manual_seed(0)
    candidates, scores = boxes(300).float(), torch.rand(300)
    kept, indices = mmcv.ops.nms(candidates, scores, 0.5)
    assert 0 < len(indices) < 300
    assert torch.equal(indices, torchvision.ops.nms(candidates, scores, 0.5))
    assert torch.equal(kept, torch.cat([candidates, scores[:, None]], dim=1)[indices])


@pytest.mark.parametrize('modulated', [False, True])
def test_deformable_convolution_equals_torchvision(modulated):
    torch.manual_seed(0)
    groups = 2
    shapes = dict(x=(2, 4, 9, 8), offset=(2, groups * 18, 9, 8), weight=(6, 4, 3, 3), bias=(6,))
    x, offset, weight, bias = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes.values()]
    inputs = [x, offset, weight]
    if modulated:
        mask = torch.rand(2, groups * 9, 9, 8, dtype=torch.float64, requires_grad=True)
        inputs += [mask, bias]
        ours = mmcv.ops.modulated_deform_conv2d(x, offset, mask, weight, bias, 1, 1, 1, 1, groups)
        theirs = torchvision.ops.deform_conv2d(x, offset, weight, bias, padding=1, mask=mask)
    else:
        ours = mmcv.ops.deform_conv2d(x, offset, weight, 1, 1, 1, 1, groups)
        theirs = torchvision.ops.deform_conv2d(x, offset, weight, padding=1)
    probe = torch.randn_like(ours)
    torch.testing.assert_close(ours, theirs, **CLOSE)
    torch.testing.assert_close(
        torch.autograd.grad(ours, inputs, probe), torch.autograd.grad(theirs, inputs, probe), **CLOSE
    )
