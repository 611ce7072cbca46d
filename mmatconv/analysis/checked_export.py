"""tools/deployment/export_onnx.py: exports a trained model, and keeps the file if it predicts the same."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate

from mmatconv.analysis.demo.inputs import IMAGES, Image, Images
from mmatconv.analysis.demo.model import TrainedModel
from mmatconv.deploy.export.agreement import compare
from mmatconv.deploy.export.exportable import exportable
from mmatconv.deploy.export.exported_model import ExportedModel
from mmatconv.deploy.export.write import write
from mmatconv.engine.checks import preflight
from mmatconv.engine.runner.checkpoint_files import write_whole
from mmatconv.errors import UserError

Say = Callable[[str], None]
GENERATED = (480, 640)
# The second size that a file for any size is tried at, by the first.
SMALLER = 0.75


def checked_export(
    config: Config,
    checkpoint: str,
    target: Path,
    kind: str,
    shape: Sequence[int] | None,
    dynamic: bool,
    image: Path | None,
    dtype: torch.dtype,
    say: Say,
) -> tuple[TrainedModel, dict[str, Any]]:
    """Exports a model and compares what the file predicts with what the model predicts.

    Args:
        config: Of the model.
        checkpoint: Path or URL of its weights.
        target: The file to write; it appears once its predictions agree.
        kind: 'onnx' or 'pt2'.
        shape: Height and width of the images; None for those the test pipeline gives the image.
        dynamic: Images of any size.
        image: To compare on. None: the first of the test data set, or a generated one where there is none.
        dtype: Of the pixels, uint8 or float32.
        say: Tells the user what is done.

    Returns:
        The model, and what its test pipeline makes of the image.

    Raises:
        UserError: The model cannot be exported, or the predictions differ.
    """
    model = TrainedModel(config, checkpoint)
    model.model.cpu()
    form = exportable(model.model, config.default_scope)
    source = _image(config, image, say)
    inputs = _resized(model, source, shape)
    pixels = inputs['inputs'][None].to(dtype)

    def write_and_compare(partial: Path) -> None:
        write(form, pixels, partial, kind, dynamic)
        exported = ExportedModel(str(partial), model.model, config.default_scope, kind=kind)
        sizes = [None, [max(32, int(side * SMALLER)) for side in pixels.shape[2:]]] if dynamic else [None]
        for size in sizes:
            _compare(model, exported, inputs if size is None else _resized(model, source, size), say)

    write_whole(target, write_and_compare)
    return model, inputs


def _compare(model: TrainedModel, exported: ExportedModel, inputs: dict[str, Any], say: Say) -> None:
    expected = model.predict([copy_of(inputs)])[0]
    actual = exported.test_step(pseudo_collate([copy_of(inputs)]))[0]
    settings = (model.model.test_cfg or {}).get('rcnn') or {} if exported.exported.task == 'detection' else {}
    agreement = compare(expected, actual, settings.get('score_thr', 0.0), settings.get('max_per_img', -1))
    size = ' x '.join(map(str, inputs['inputs'].shape[1:]))
    if not agreement.good:
        raise UserError(f'the exported file does not predict what the model predicts at {size}: {agreement.summary}')
    say(f'compared with PyTorch at {size}: {agreement.summary}')


def copy_of(inputs: dict[str, Any]) -> dict[str, Any]:
    """What the test pipeline made of an image, for a prediction that changes it."""
    return dict(inputs=inputs['inputs'].clone(), data_samples=inputs['data_samples'].clone())


def _image(config: Config, given: Path | None, say: Say) -> Image:
    """The image to compare on."""
    if given is not None:
        return next(iter(Images(given)))
    for folder in _folders(config):
        if Path(folder).is_dir():
            files = (file for file in Path(folder).rglob('*') if file.suffix.lower() in IMAGES)
            if (file := next(files, None)) is not None:
                say(f"comparing on '{file}'")
                return Image(file.name, file)
    say('the test data set of the config is not there: comparing on a generated image; --image FILE takes a real one')
    return Image('generated', Path('generated.png'), _generated())


def _folders(config: Config) -> Iterator[str]:
    for _, dataset in preflight.leaf_datasets(config.test_dataloader.dataset, ''):
        folders = preflight.image_folders(dataset)
        yield from (folders[key] for key in ('img', 'img_path', '') if key in folders)


def _generated() -> np.ndarray:
    """Coloured patches of several sizes with edges between them, (H, W, 3)."""
    chance = np.random.default_rng(0)
    layers = [chance.integers(0, 256, (side, side, 3), dtype=np.uint8) for side in (3, 9, 40)]
    layers = [cv2.resize(layer, GENERATED[::-1], interpolation=cv2.INTER_NEAREST) for layer in layers]
    return np.mean(layers, axis=0).astype(np.uint8)


def _resized(model: TrainedModel, image: Image, shape: Sequence[int] | None) -> dict[str, Any]:
    """What the test pipeline makes of an image, brought to a shape."""
    _, inputs = model.read(image)
    if shape is not None and tuple(inputs['inputs'].shape[1:]) != tuple(shape):
        pixels = inputs['inputs'].permute(1, 2, 0).contiguous().numpy()
        pixels = cv2.resize(pixels, (shape[1], shape[0])).reshape(*shape, -1)
        inputs['inputs'] = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
        height, width = inputs['data_samples'].ori_shape[:2]
        inputs['data_samples'].set_metainfo(
            dict(img_shape=tuple(shape), pad_shape=tuple(shape), scale_factor=(shape[1] / width, shape[0] / height))
        )
    return inputs
