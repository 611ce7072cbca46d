"""People seen by visible-light and by infrared cameras: what every such data set has in common."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmpretrain.datasets import BaseDataset

from mmatconv.errors import UserError

VISIBLE, INFRARED = MODALITIES = ('visible', 'infrared')


@dataclass(frozen=True)
class Picture:
    """An image and who is on it.

    Attributes:
        path: The file.
        person: Number of the identity.
        camera: Number of the camera.
        modality: 'visible' or 'infrared'.
        track: Number of the sequence it is from, within its modality; images of no sequence have one each.
    """

    path: Path
    person: int
    camera: int
    modality: str
    track: int


class CrossModalityDataset(BaseDataset):
    """Samples with ``img_path``, ``person_id``, ``camera_id``, ``modality``, ``track_id`` and, to train, ``gt_label``.

    Labels count the identities of the training set from 0. ``PackInputs`` needs the names of what evaluation reads as
    its ``meta_keys`` (configs/_base_/retrieval/recipe.py).

    Args:
        data_root: Folder of the data set.
        split: 'train' or 'test'. Default: 'train'.
        **kwargs: Those of mmpretrain's BaseDataset.

    Raises:
        UserError: A file or folder is missing or not of this layout, or one of the modalities has no image.
    """

    def __init__(self, data_root: str, split: str = 'train', **kwargs: Any) -> None:
        if split not in ('train', 'test'):
            raise UserError(f"split '{split}' of {type(self).__name__} is unknown; choose 'train' or 'test'")
        self.split = split
        super().__init__(ann_file='', data_root=data_root, test_mode=split == 'test', **kwargs)

    @abstractmethod
    def pictures(self, root: Path) -> Iterator[Picture]:
        """All images of the split, in an order that does not depend on the machine."""

    def load_data_list(self) -> list[dict]:
        """The samples, as MMEngine asks for them."""
        root = Path(self.data_root).expanduser()
        pictures = list(self.pictures(root))
        for modality in MODALITIES:
            if not any(picture.modality == modality for picture in pictures):
                raise UserError(
                    f"'{root}' has no {modality} image to {self.split} with; unpack the whole data set there, or set "
                    'data_root to where it is'
                )
        labels = {person: label for label, person in enumerate(sorted({picture.person for picture in pictures}))}
        samples = []
        for picture in pictures:
            sample = dict(
                img_path=str(picture.path),
                person_id=picture.person,
                camera_id=picture.camera,
                modality=picture.modality,
                track_id=picture.track,
            )
            samples.append(sample if self.test_mode else dict(sample, gt_label=labels[picture.person]))
        return samples


def read_lines(path: Path) -> list[str]:
    """The lines of a list that belongs to a data set, without empty ones.

    Raises:
        UserError: It is missing or no text.
    """
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"'{path}' cannot be read ({error}); unpack the whole data set, or set data_root to the folder it is in"
        ) from error
    return [line.strip() for line in lines if line.strip()]


def odd_line(path: Path, number: int, line: str, expected: str) -> UserError:
    """The error for a line of a list that is not of its form; `number` counts from 1."""
    return UserError(f"line {number} of '{path}' is '{line[:60]}', expected {expected}; fetch the file again")
