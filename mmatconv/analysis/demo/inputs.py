"""The images a user names: one file, a folder of them, or the frames of a video."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mmatconv.errors import UserError

IMAGES = frozenset({'.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp'})
VIDEOS = frozenset({'.avi', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.webm'})


@dataclass
class Image:
    """One image.

    Attributes:
        name: Its path below the folder that was given, or its file name; of a video, the number of the frame.
        path: Its file, or that of the video.
        frame: The pixels of a frame, (H, W, 3) in BGR; None for a file.
    """

    name: str
    path: Path
    frame: np.ndarray | None = None


class Images:
    """The images behind a path.

    Args:
        path: An image, a video, or a folder, which is searched with all folders in it.

    Raises:
        UserError: It does not exist, is neither an image nor a video by its suffix, or holds no image.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fps: float | None = None
        if path.is_dir():
            self._files = sorted(file for file in path.rglob('*') if file.suffix.lower() in IMAGES and file.is_file())
            if not self._files:
                raise UserError(f"the folder '{path}' holds no image (looked for {', '.join(sorted(IMAGES))})")
        elif not path.exists():
            raise UserError(f"'{path}' does not exist; name an image, a folder of images or a video")
        elif path.suffix.lower() in VIDEOS:
            with self._video() as video:
                self.fps = video.get(cv2.CAP_PROP_FPS) or 25.0
                self._count = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        elif path.suffix.lower() in IMAGES:
            self._files = [path]
        else:
            suffixes = ', '.join(sorted(IMAGES | VIDEOS))
            raise UserError(f"'{path}' is not an image or a video; expected a folder or one of {suffixes}")

    @property
    def is_video(self) -> bool:
        """Whether the images are the frames of a video."""
        return self.fps is not None

    def __len__(self) -> int:
        """How many there are; of a video, what its header says."""
        return self._count if self.is_video else len(self._files)

    def __iter__(self) -> Iterator[Image]:
        if self.is_video:
            with self._video() as video:
                number = 0
                while (frame := video.read()[1]) is not None:
                    yield Image(f'{number:06d}', self.path, frame)
                    number += 1
        else:
            root = self.path if self.path.is_dir() else self.path.parent
            for file in self._files:
                yield Image(str(file.relative_to(root)), file)

    @contextlib.contextmanager
    def _video(self) -> Iterator[cv2.VideoCapture]:
        video = cv2.VideoCapture(str(self.path))
        try:
            if not video.isOpened():
                raise UserError(f"'{self.path}' is not a video or is damaged")
            yield video
        finally:
            video.release()
