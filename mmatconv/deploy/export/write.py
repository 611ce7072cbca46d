"""Writing a model as an ONNX graph or as a program of torch.export."""

import json
import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmatconv.errors import UserError

FORMATS = ('onnx', 'pt2')
# RoiAlign with half pixels needs 16, and nothing here gains by a later one.
OPSET = 18
INPUT = 'image'
# The key of what a file says of itself; in a pt2 file, the name of an extra file.
ABOUT = 'mmatconv'


def write(form: nn.Module, image: Tensor, file: Path, kind: str, dynamic: bool) -> None:
    """Writes a form of :func:`.exportable.exportable`.

    Args:
        form: The model as a function of an image.
        image: Pixels (1, C, H, W), uint8 or float32; the file takes images of its dtype.
        file: Where to; overwritten.
        kind: In ``FORMATS``.
        dynamic: Images of any height and width, and batches where ``form.batch`` is None, rather than of this shape.

    Raises:
        UserError: torch cannot export the model; the sentence has torch's reason.
    """
    about = json.dumps(dict(task=form.task, outputs=list(form.outputs), shape=_shape(form, image, dynamic)))
    axes = {axis: torch.export.Dim.DYNAMIC for axis, side in enumerate(json.loads(about)['shape']) if side is None}
    if form.batch is None and dynamic:
        image = torch.cat([image, image])  # an axis of length 1 counts as fixed
    shapes = {INPUT: axes} if axes else None
    try:
        with torch.no_grad():
            program = torch.export.export(form, (image,), dynamic_shapes=shapes, strict=False)
            if kind == 'onnx':
                program = _to_onnx(program, form)
    except Exception as error:
        raise UserError(f'torch cannot export {type(form).__name__.lower()} to {kind}: {_reason(error)}') from error
    if kind == 'pt2':
        torch.export.save(program, file, extra_files={ABOUT: about})
    else:
        program.model.metadata_props[ABOUT] = about
        program.save(file, external_data=False)


def _to_onnx(program: Any, form: nn.Module) -> Any:
    options = dict(opset_version=OPSET, input_names=[INPUT], output_names=list(form.outputs), verbose=False)
    if form.task == 'detection':
        from mmatconv.deploy.export.operators import translations

        options['custom_translation_table'] = translations()
    log = logging.getLogger('onnxscript')
    level = log.level
    log.setLevel(logging.ERROR)  # it tells of every operator that it does not fold
    try:
        return torch.onnx.export(program, dynamo=True, **options)
    finally:
        log.setLevel(level)


def _shape(form: nn.Module, image: Tensor, dynamic: bool) -> list[int | None]:
    """Of the images the file takes; None for any."""
    batch, channels, height, width = image.shape
    return [form.batch, channels, None, None] if dynamic else [batch, channels, height, width]


def _reason(error: Exception) -> str:
    """The first line of what torch says, which goes on for pages."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
