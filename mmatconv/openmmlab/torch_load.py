"""``torch.load`` reads as data, whoever calls it: MMEngine unpickles without restriction what it cannot read so."""

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from mmatconv.checkpoint.reader import read_stream
from mmatconv.openmmlab.log import log_change


def guard_torch_load() -> None:
    """Make every ``torch.load`` of this process read as :func:`mmatconv.checkpoint.reader.read_checkpoint` does.

    MMEngine's loaders for addresses call it with ``weights_only=False`` after a refusal, or always (before torch 2.6).
    What it takes, it takes as torch's own: ``map_location``, ``mmap``, and streams, which are read from where they
    stand. ``weights_only`` says nothing any more; a ``pickle_module`` unpickles trusted files only
    (``--trust-checkpoint``). Calling it again changes nothing.
    """
    if torch.load is _load:
        return
    torch.load = _load
    log_change('torch.load', 'checkpoints are read as data, without a fallback to code')


def _load(
    f: Any, map_location: Any = None, pickle_module: Any = None, *, mmap: bool | None = None, **ignored: Any
) -> Any:
    """As ``torch.load``, but what is not data is refused with a UserError."""
    if isinstance(f, str | os.PathLike):
        with open(f, 'rb') as file:
            return read_stream(file, Path(f), map_location, mmap, pickle_module or pickle)
    if mmap:
        raise ValueError('torch.load maps files only: give their path for mmap=True.')
    return read_stream(f, Path(str(getattr(f, 'name', 'a stream'))), map_location, None, pickle_module or pickle)
