"""Running what was exported."""

import json
import os
from pathlib import Path

import numpy as np
import torch

from mmatconv.deploy.export.checks import check_packages
from mmatconv.deploy.export.write import ABOUT, FORMATS, INPUT
from mmatconv.errors import UserError


class Exported:
    """An exported file, called with an image.

    Args:
        file: As tools/deployment/export_onnx.py writes it.
        kind: 'onnx' or 'pt2'. Default: the suffix of the file.

    Attributes:
        task: 'classification', 'segmentation' or 'detection'.
        shape: Of the images it takes, None for any: [B, C, H, W].

    Raises:
        UserError: It is not such a file, or the packages to run it are missing.
    """

    def __init__(self, file: str | os.PathLike[str], kind: str | None = None) -> None:
        self.file = str(file)
        kind = kind or Path(file).suffix.removeprefix('.')
        if kind not in FORMATS:
            raise UserError(f"'{file}' must end in .onnx or .pt2")
        check_packages(onnx=kind == 'onnx')
        about = self._open_onnx() if kind == 'onnx' else self._open_pt2()
        if not about:
            raise UserError(f"'{file}' was not written by tools/deployment/export_onnx.py; export the model with it")
        self.task, self.outputs, self.shape = (json.loads(about)[key] for key in ('task', 'outputs', 'shape'))

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Its outputs by name for pixels (B, C, H, W).

        Raises:
            UserError: Images of another shape.
        """
        if any(side not in (None, given) for side, given in zip(self.shape, image.shape)):
            wanted = ' x '.join('any' if side is None else str(side) for side in self.shape)
            given = ' x '.join(map(str, image.shape))
            raise UserError(
                f"'{self.file}' takes images of {wanted}, but was given {given}; export it with --dynamic, or with "
                '--shape and a test pipeline of this size'
            )
        try:
            outputs = self._run(image)
        except Exception as error:
            shape, reason = ' x '.join(map(str, image.shape)), ' '.join(str(error).split())
            raise UserError(f"'{self.file}' fails on images of {shape}: {reason}") from error
        return dict(zip(self.outputs, outputs))

    def _open_onnx(self) -> str | None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # it warns of every folded constant
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            session = onnxruntime.InferenceSession(self.file, options, providers=onnxruntime.get_available_providers())
        except Exception as error:
            reason = ' '.join(str(error).split())
            raise UserError(f"'{self.file}' cannot be read as an ONNX model: {reason}") from error
        dtype = np.uint8 if session.get_inputs()[0].type == 'tensor(uint8)' else np.float32
        self._run = lambda image: session.run(None, {INPUT: image.astype(dtype)})
        return session.get_modelmeta().custom_metadata_map.get(ABOUT)

    def _open_pt2(self) -> str | None:
        # Registers the operators of detectors.
        import mmatconv.deploy.export.operators  # noqa: F401

        extra = {ABOUT: ''}
        try:
            program = torch.export.load(self.file, extra_files=extra)
        except Exception as error:
            raise UserError(f"'{self.file}' cannot be read as a program of torch.export: {error}") from error
        module = program.module()
        dtype = next(node for node in program.graph.nodes if node.name == INPUT).meta['val'].dtype

        @torch.no_grad()
        def run(image: np.ndarray) -> list[np.ndarray]:
            return [output.numpy() for output in module(torch.from_numpy(image).to(dtype))]

        self._run = run
        return extra[ABOUT]
