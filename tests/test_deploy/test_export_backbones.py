"""Every backbone as ONNX by both exporters of torch, in onnxruntime at the size of the export and at others."""

import io

import onnxruntime
import pytest
import torch

from mmatconv import ACmixResNet, ATConvPVT, ATConvSwin, AttNet

pytestmark = pytest.mark.newer_torch

FORMS = {
    'AttNet': (AttNet, {}),
    'AttNet-masked': (AttNet, dict(mask_padding=True, out_norm=True)),
    'AttNet-grid': (AttNet, dict(context_pool='grid')),
    'AttNet-grid-masked': (AttNet, dict(mask_padding=True, context_pool='grid')),
    'AttNet-classification': (AttNet, dict(gap_before_final_norm=True)),
    'ATConvPVT': (ATConvPVT, {}),
    'ATConvSwin': (ATConvSwin, {}),
    'ATConvSwin-linear-masked': (ATConvSwin, dict(merging='linear', mask_padding=True)),
}
# Their maps have 494, 130 and 384, 96 pixels, which the 9 bins of a 3x3 kernel do not divide.
EXPORTED, OTHER = (2, 3, 76, 101), (3, 3, 96, 64)
OPSET = 18


def build(form, stages=2):
    torch.manual_seed(0)
    kind, options = FORMS[form]
    arch = dict(depths=[1] * stages, dims=[8, 12][:stages])
    expansion = dict(exp_rates=2) if kind is AttNet else dict(mlp_ratios=2)
    return kind({**arch, **expansion}, init='live', **options).eval()


def images(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(shape[2]))
    x[-1, :, 50:], x[-1, :, :, 60:] = 0, 0  # padding, for those that look for it
    return x


def export(model, shape, dynamo, dynamic=True):
    file = io.BytesIO()
    if dynamo:
        axes = {axis: torch.export.Dim.DYNAMIC for axis in (0, 2, 3)}
        options = dict(dynamic_shapes=(axes,) if dynamic else None, verbose=False)
    else:
        options = dict(dynamic_axes={'image': {0: 'batch', 2: 'height', 3: 'width'}} if dynamic else None)
    names = dict(input_names=['image'], opset_version=OPSET, external_data=False)
    torch.onnx.export(model, (images(shape),), file, dynamo=dynamo, **names, **options)
    return onnxruntime.InferenceSession(file.getvalue())


def assert_equal_at(session, model, *shapes):
    for shape in shapes:
        with torch.no_grad():
            expected = model(images(shape))
        for output, wanted in zip(session.run(None, {'image': images(shape).numpy()}), expected, strict=True):
            # float32, and sums in another order.
            difference = (torch.from_numpy(output) - wanted).abs().max()
            assert difference / wanted.abs().max() < 1e-5


@pytest.mark.parametrize('form', ['AttNet', 'AttNet-grid', 'AttNet-masked', 'ATConvPVT', 'ATConvSwin'])
def test_default_exporter_with_dynamic_shapes(form):
    model = build(form, stages=2 if form == 'AttNet-masked' else 1)  # its symbolic shapes take seconds a stage
    assert_equal_at(export(model, EXPORTED, dynamo=True), model, EXPORTED, OTHER)


@pytest.mark.parametrize('form', FORMS)
def test_torchscript_exporter_with_dynamic_shapes(form):
    model = build(form)
    assert_equal_at(export(model, EXPORTED, dynamo=False), model, EXPORTED, OTHER)


@pytest.mark.parametrize('dynamo', [True, False])
def test_acmix_resnet_at_a_fixed_size(dynamo):
    torch.manual_seed(0)
    model = ACmixResNet(dict(depths=[1, 1], dims=[16, 24]), num_heads=2).eval()
    assert_equal_at(export(model, EXPORTED, dynamo, dynamic=False), model, EXPORTED)


def test_the_graph_needs_nothing_of_this_package():
    program = torch.export.export(build('AttNet', stages=1), (images(EXPORTED),))
    assert not [node for node in program.graph.nodes if 'mmatconv' in str(node.target)]
