"""VCM-HITSZ (Lin et al., CVPR 2022), in the layout its code reads (github.com/VCM-project233/MITML)."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mmpretrain.registry import DATASETS

from mmatconv.errors import UserError
from mmatconv.retrieval.dataset import INFRARED, VISIBLE, CrossModalityDataset, Picture, odd_line, read_lines

# Its numbers for the modalities, in names and lists, and its folders.
MODALITY = {1: INFRARED, 2: VISIBLE}
FOLDER = {1: 'ir', 2: 'rgb'}
NAME = re.compile(r'(\d{4})M([12])(D\d+)T\d+F(\S+)')


@DATASETS.register_module()
class VCM(CrossModalityDataset):
    """VCM-HITSZ: tracks of 927 identities in video, 500 of them to train with.

    ::

        data_root/
            info/train_name.txt            '0001M2D3T1F1.jpg': identity, modality (1 infrared), camera, track, frame
            info/track_train_info.txt      '2 1 24 1 3': modality, first and last line of the names, identity, camera
            info/test_name.txt, track_test_info.txt
            0001/rgb/D3/1.jpg              the frame of the first line; or Train/0001/..., Test/0503/...

    ``info/query_IDX.txt``, which numbers the query tracks, is not read: the metric takes those of one modality.
    Frames whose name has another identity or modality than their track are left out.

    Args:
        data_root: Folder of the data set.
        split: 'train' or 'test'. Default: 'train'.
        min_frames: Shorter tracks are left out. Default: 12, MITML's.
        frames: How many of a track are taken, evenly spaced; 0 for all. Default: 6, MITML's length of a sequence.
        **kwargs: Those of mmpretrain's BaseDataset.

    Raises:
        UserError: A file is missing or not of this layout, or one of the modalities has no image.
    """

    def __init__(
        self, data_root: str, split: str = 'train', min_frames: int = 12, frames: int = 6, **kwargs: Any
    ) -> None:
        if frames < 0 or min_frames < 1:
            raise UserError(f'frames is {frames} and min_frames {min_frames}, expected 0 or more and 1 or more')
        self.min_frames = min_frames
        self.frames = frames
        super().__init__(data_root, split, **kwargs)

    def pictures(self, root: Path) -> Iterator[Picture]:
        """Frames of the tracks, in the order of the lists."""
        folder = root / self.split.capitalize()
        images = folder if folder.is_dir() else root
        name_list = root / 'info' / f'{self.split}_name.txt'
        names = read_lines(name_list)
        path = root / 'info' / f'track_{self.split}_info.txt'
        for track, line in enumerate(read_lines(path), 1):
            modality, first, last, person, camera = self._numbers(path, track, line, len(names))
            if last - first + 1 < self.min_frames:
                continue
            for index in self._spaced(first - 1, last):
                found = NAME.fullmatch(names[index])
                if found is None:
                    raise odd_line(name_list, index + 1, names[index], 'a name as 0001M2D3T1F1.jpg')
                if (int(found[1]), int(found[2])) == (person, modality):
                    file = images / found[1] / FOLDER[modality] / found[3] / found[4]
                    yield Picture(file, person, camera, MODALITY[modality], track)

    def _numbers(self, path: Path, track: int, line: str, names: int) -> list[int]:
        parts = line.split()
        if len(parts) == 5 and all(part.isdigit() for part in parts):
            numbers = [int(part) for part in parts]
            if numbers[0] in MODALITY and 1 <= numbers[1] <= numbers[2] <= names:
                return numbers
        raise odd_line(
            path, track, line, f'modality (1, 2), first and last name (1 to {names}), identity and camera as numbers'
        )

    def _spaced(self, start: int, stop: int) -> list[int]:
        if not self.frames or stop - start <= self.frames:
            return list(range(start, stop))
        return np.linspace(start, stop - 1, self.frames).round().astype(int).tolist()
