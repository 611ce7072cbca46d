"""Configs of the project, each read once in a test run.

MMEngine reads all of mmdet's, mmseg's or mmpretrain's metafiles again for each of their configs that one inherits from.
"""

import copy
import functools
from unittest import mock

from mmengine.config import Config, utils

import mmatconv  # noqa: F401  'mmseg::' is found once it is imported

load_once = functools.cache(utils.load)


def read_config(path: str) -> Config:
    """A copy of a config that the caller may change."""
    return copy.deepcopy(_read(str(path)))


@functools.cache
def _read(path: str) -> Config:
    with mock.patch.object(utils, 'load', load_once):
        return Config.fromfile(path)
