"""MMEngine's loader of checkpoints: reads as data, and takes released names for an mmpretrain classifier's."""

from typing import Any

from torch import Tensor

from mmatconv.checkpoint.loading import log_line, state_dict_of
from mmatconv.checkpoint.names import is_released, is_released_sit, to_classifier
from mmatconv.checkpoint.published import SCHEME
from mmatconv.checkpoint.reader import read_checkpoint
from mmatconv.openmmlab.log import log_change
from mmatconv.openmmlab.torch_load import guard_torch_load


def use_safe_loader() -> None:
    """Make MMEngine read every checkpoint, local or remote, as :func:`read_checkpoint` does.

    MMEngine itself unpickles without restriction what cannot be read as data. It loads whole models, so that a
    checkpoint with the released names is read as an mmpretrain classifier's: ``tools/test.py``, ``load_from`` and a
    classifier's ``init_cfg`` take it with its head, detectors its backbone. Calling it again changes nothing.
    """
    from mmengine.runner.checkpoint import CheckpointLoader

    guard_torch_load()
    if CheckpointLoader._schemes.get('') is not load_from_mmatconv:
        CheckpointLoader.register_scheme(prefixes='', loader=load_from_mmatconv, force=True)
        log_change("CheckpointLoader's scheme ''", 'files are read as data, released names as a classifier')


def register_published_weights() -> None:
    """Make MMEngine find ``mmatconv://`` addresses, which ``mmengine.hub.get_model`` takes from our metafiles.

    Calling it again changes nothing.
    """
    from mmengine.runner.checkpoint import CheckpointLoader

    if SCHEME not in CheckpointLoader._schemes:
        CheckpointLoader.register_scheme(prefixes=SCHEME, loader=load_from_mmatconv)
        log_change(f"CheckpointLoader's scheme '{SCHEME}'", 'addresses of the weights in this package')


def load_from_mmatconv(filename: str, map_location: Any = None) -> dict[str, Any]:
    """What MMEngine's ``load_from_local`` does; its log line quotes this function's name from the tenth letter."""
    checkpoint = read_checkpoint(filename, map_location or 'cpu')
    if not any(isinstance(value, dict | Tensor) for value in checkpoint.values()):
        return checkpoint
    state = state_dict_of(checkpoint)
    if is_released_sit(state):
        return {'state_dict': _of_sit(checkpoint, state, filename)}
    if not is_released(state):
        return checkpoint
    log_line(f"'{filename}' has the released names; read as a classifier: NAME is backbone.NAME, head.* is head.fc.*")
    meta = checkpoint.get('meta')
    state = {to_classifier(name): value for name, value in state.items()}
    return {'state_dict': state, 'meta': meta if isinstance(meta, dict) else {}}


def _of_sit(checkpoint: dict[str, Any], state: dict[str, Tensor], filename: str) -> dict[str, Tensor]:
    """The weights of a released SiT by our names: those of its EMA, where it has one, which are meant to be sampled."""
    average = checkpoint.get('ema')
    if isinstance(average, dict) and is_released_sit(average):
        state = average
    which = 'the EMA of ' if state is average else ''
    log_line(f"'{filename}' has SiT's released names; {which}it is read: NAME is backbone.NAME")
    return {f'backbone.{name}': value for name, value in state.items()}
