"""The generated data set that the quickstart and the tests use: numpy and OpenCV draw it, pycocotools encodes it."""

from .shapes import CLASSES, PALETTE, SEG_CLASSES, Instance, Scene, draw_scene
from .shapes_writer import preview, write_shapes

__all__ = ['CLASSES', 'PALETTE', 'SEG_CLASSES', 'Instance', 'Scene', 'draw_scene', 'preview', 'write_shapes']
