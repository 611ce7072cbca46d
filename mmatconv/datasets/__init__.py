"""Data sets: the generated shapes of quickstart and tests, and ImageNet from folders or LMDB.

numpy and OpenCV draw the shapes, pycocotools encodes them; ``ImageNet`` needs mmpretrain, imported when asked for.
"""

from mmatconv.datasets.shapes.classes import CLASSES, PALETTE, SEG_CLASSES
from mmatconv.datasets.shapes.preview import preview
from mmatconv.datasets.shapes.scene import Instance, Scene, draw_scene
from mmatconv.datasets.shapes.writer import write_shapes

__all__ = ['CLASSES', 'PALETTE', 'SEG_CLASSES', 'Instance', 'Scene', 'draw_scene', 'preview', 'write_shapes']


def __getattr__(name: str) -> object:
    """``mmatconv.datasets.ImageNet`` without importing mmpretrain for those who do not ask for it."""
    if name == 'ImageNet':
        from mmatconv.datasets.imagenet import ImageNet

        return ImageNet
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
