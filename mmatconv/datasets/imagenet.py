"""ImageNet-1K from class folders or from LMDB, whichever is there."""

import os
from typing import Any

from mmengine.logging import print_log
from mmpretrain.datasets import ImageNet as ImageNetFolders

from mmatconv.datasets.lmdb_backend import SUFFIX, uri
from mmatconv.errors import UserError


class ImageNet(ImageNetFolders):
    """mmpretrain's ImageNet, which also reads ``DATA_ROOT/train.lmdb`` in place of the folder ``DATA_ROOT/train``.

    Where both exist the LMDB is read; the log says which it is. Classes, labels and images are the same and in the same
    order. ``tools/dataset_tools/make_imagenet_lmdb.py`` writes the LMDB. All arguments are mmpretrain's.

    Raises:
        UserError: The LMDB cannot be read, the package lmdb is missing, or there are more or fewer class folders than
            classes.
    """

    def _join_prefix(self) -> None:
        super()._join_prefix()
        folder = self.img_prefix.rstrip('/')
        database = folder + SUFFIX
        if '://' not in folder and os.path.exists(database):
            self.data_prefix['img_path'] = uri(database)
        print_log(f'{type(self).__name__}: images are read from {self.img_prefix}', logger='current')

    def _find_samples(self) -> list[tuple[str, Any]]:
        try:
            return super()._find_samples()
        except AssertionError as error:
            raise UserError(
                f"'{self.img_prefix}' has {len(self.folder_to_idx)} class folders, expected {len(self.CLASSES)}; "
                'complete it, or for classes of your own set metainfo.classes of the data sets, model.head.num_classes '
                'and data_preprocessor.num_classes.'
            ) from error
