"""LLCM (arXiv 2303.14481), in the layout its code reads (github.com/ZYK100/LLCM)."""

import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from mmpretrain.registry import DATASETS

from mmatconv.errors import UserError
from mmatconv.retrieval.dataset import INFRARED, VISIBLE, CrossModalityDataset, Picture, odd_line, read_lines

SHORT = {VISIBLE: 'vis', INFRARED: 'nir'}
SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp')


@DATASETS.register_module()
class LLCM(CrossModalityDataset):
    """Low-Light Cross-Modality: 713 identities to train with, others to test.

    ::

        data_root/
            idx/train_vis.txt, train_nir.txt   lines 'vis/0001/0001_c01_s185535_f7010_vis.jpg 0': file, identity
            idx/test_id.txt                    '3,7,12': numbers of the identities to test with
            test_vis/cam1/0003/*.jpg           up to cam9; test_nir/ likewise

    The camera of a training image is the number after '_c' in its name. The arguments are those of
    :class:`CrossModalityDataset`.
    """

    def pictures(self, root: Path) -> Iterator[Picture]:
        """The images that the lists name, or those in the folders of the identities to test with."""
        return self._training(root) if self.split == 'train' else self._test(root)

    def _training(self, root: Path) -> Iterator[Picture]:
        for modality, short in SHORT.items():
            path = root / 'idx' / f'train_{short}.txt'
            for number, line in enumerate(read_lines(path), 1):
                found = re.fullmatch(r'(\S.*_c(\d+)_.*) (\d+)', line)
                if found is None:
                    raise odd_line(path, number, line, "'FOLDER/NAME_cCAMERA_... IDENTITY'")
                yield Picture(root / found[1], int(found[3]), int(found[2]), modality, number)

    def _test(self, root: Path) -> Iterator[Picture]:
        path = root / 'idx' / 'test_id.txt'
        lines = read_lines(path)
        if not lines or not re.fullmatch(r'\d+(\s*,\s*\d+)*,?', lines[0]):
            raise odd_line(path, 1, lines[0] if lines else '', 'numbers with commas between them')
        persons = sorted(int(number) for number in re.findall(r'\d+', lines[0]))
        for modality, short in SHORT.items():
            cameras = sorted((root / f'test_{short}').glob('cam*'), key=lambda folder: (len(folder.name), folder.name))
            tracks = count()
            for camera in cameras:
                if not camera.name[3:].isdigit():
                    raise UserError(f"'{camera}' is no folder of LLCM, expected cam1 to cam9; remove or rename it")
                for person in persons:
                    for file in sorted((camera / f'{person:04d}').glob('*')):
                        if file.suffix.lower() in SUFFIXES:
                            yield Picture(file, person, int(camera.name[3:]), modality, next(tracks))
