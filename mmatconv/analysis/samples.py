"""tools/sample.py: loads a model that generates, samples it, and writes what comes out and a sheet of it."""

from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from PIL import Image
from torch import Tensor

from mmatconv.analysis.build_model import build_model, load_trained_weights
from mmatconv.analysis.contact_sheet import contact_sheet
from mmatconv.errors import UserError
from mmatconv.generation.flow import seeded_noise
from mmatconv.generation.flow_matching import FlowMatching

SAMPLES, SHEET = 'samples', 'sheet.png'
# The sheet shows the first samples, in so many columns, each drawn this wide.
MOST_ON_SHEET, COLUMNS, WIDTH = 60, 10, 96


class Sampler:
    """A trained FlowMatching model, on the GPU where there is one.

    Args:
        config: With ``model`` of type 'mmatconv.FlowMatching'.
        checkpoint: Path or URL; released SiT checkpoints are taken too. Weights of an EMA come first.

    Raises:
        UserError: The config is of another model, or the checkpoint does not fit.
    """

    def __init__(self, config: Config, checkpoint: str) -> None:
        self.model = build_model(config, 'cpu')
        if not isinstance(self.model, FlowMatching):
            raise UserError(
                f"config '{config.filename}' builds an {type(self.model).__name__}, which generates nothing; "
                'use one of configs/sit'
            )
        load_trained_weights(self.model, checkpoint)
        self.network = self.model.backbone

    def labels(self, count: int, classes: list[int] | None, seed: int) -> Tensor:
        """The class of each sample: those asked for in turn; without any, all in turn, or drawn if they are more.

        Raises:
            UserError: The model has no such class.
        """
        known = self.network.num_classes
        for label in classes or ():
            if not 0 <= label < known:
                named = f'0 to {known - 1}' if known > 1 else '0, the only one'
                raise UserError(f'--classes: the model has no class {label}, its classes are {named}')
        if classes is None and known > count:
            return torch.randint(known, (count,), generator=torch.Generator().manual_seed(seed))
        chosen = torch.tensor(range(known) if classes is None else classes)
        return chosen[torch.arange(count) % len(chosen)]

    def batches(self, labels: Tensor, seed: int, batch: int, **options: Any) -> Iterator[Tensor]:
        """(up to ``batch``, C, H, W) each, on the CPU; options are those of :meth:`FlowMatching.sample`."""
        generator = torch.Generator().manual_seed(seed)
        device = next(self.model.parameters()).device
        shape = (self.network.in_channels, *self.network.input_size)
        for part in labels.split(batch):
            noise = seeded_noise(len(part), shape, generator)
            yield self.model.sample(noise.to(device), part.to(device), **options).cpu()


def write_samples(folder: Path, batches: Iterable[Tensor], labels: Tensor, latents: bool, caption: str) -> list[str]:
    """Writes a file for each sample, and sheet.png.

    Args:
        folder: Where to.
        batches: Of (B, C, H, W), pixels from 0 to 255, or latents.
        labels: (N,), N samples in all.
        latents: Write .npy files, and on the sheet the first three channels, each stretched to its range.
        caption: Below the sheet.

    Returns:
        The names of the files, in the folder.
    """
    (folder / SAMPLES).mkdir()
    suffix = '.npy' if latents else '.png'
    names = [f'{SAMPLES}/{i:06d}_class{label:04d}{suffix}' for i, label in enumerate(labels.tolist())]
    with TemporaryDirectory() as enlarged:
        shown = []
        for name, sample in zip(names, (sample for batch in batches for sample in batch)):
            picture = _to_picture(_stretched(sample[:3]) if latents else sample)
            if latents:
                np.save(folder / name, sample.numpy())
            else:
                picture.save(folder / name)
            if len(shown) < MOST_ON_SHEET:
                shown.append(Path(enlarged, f'{len(shown)}.png'))
                width = max(WIDTH, picture.width)
                picture.resize((width, width * picture.height // picture.width)).save(shown[-1])
        if latents:
            caption += '; the first three channels of the latents, each stretched to its range'
        contact_sheet(shown, folder / SHEET, caption=caption, columns=COLUMNS)
    return names


def _to_picture(pixels: Tensor) -> Image.Image:
    """(1 or 3, H, W) -> a picture."""
    return Image.fromarray(pixels.round().clamp(0, 255).byte().permute(1, 2, 0).squeeze(2).numpy())


def _stretched(x: Tensor) -> Tensor:
    low, high = x.amin((1, 2), keepdim=True), x.amax((1, 2), keepdim=True)
    return 255 * (x - low) / (high - low).clamp_min(1e-6)


def check_fid(real: Path, weights: str | None, latents: bool) -> None:
    """Whether FID can be computed, before anything is sampled.

    Raises:
        UserError: torch-fidelity is not installed, the weights are missing, or there are no pictures to compare.
    """
    if latents:
        raise UserError('--fid compares pictures, but this model makes latents; decode them and compare the pictures')
    if find_spec('torch_fidelity') is None:
        raise UserError("--fid needs torch-fidelity; install it with 'pip install torch-fidelity'")
    if weights is None or not Path(weights).expanduser().is_file():
        given = '' if weights is None else f" ('{weights}' is no file)"
        raise UserError(
            f'--fid needs --fid-weights FILE{given}: the Inception weights of torch-fidelity, '
            'weights-inception-2015-12-05-6726825d.pth, which it would otherwise download'
        )
    if not real.is_dir():
        raise UserError(f"--fid '{real}' is no folder; name a folder of real pictures")


def fid(folder: Path, real: Path, weights: str) -> float:
    """The Fréchet inception distance of the samples in a folder to real pictures, by torch-fidelity."""
    from torch_fidelity import calculate_metrics

    metrics = calculate_metrics(
        input1=str(folder / SAMPLES),
        input2=str(real),
        fid=True,
        cuda=torch.cuda.is_available(),
        feature_extractor_weights_path=str(Path(weights).expanduser()),
        samples_find_deep=True,
        verbose=False,
    )
    return metrics['frechet_inception_distance']
