"""Reading checkpoints as data, never as code, and reporting what of them was loaded.

A checkpoint is a ``.safetensors`` file, or a torch file read with ``weights_only=True`` and a short list of further
types that MMEngine's training state is made of. There is no fallback to unrestricted unpickling.
"""

import argparse
import contextlib
import os
import pickle
import re
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .checkpoint_names import is_released, to_classifier
from .errors import UserError

# Where public code keeps the state dict inside a checkpoint: MMEngine, then the released code.
STATE_DICT_KEYS = ('state_dict', 'model')


@dataclass
class LoadReport:
    """What became of the tensors of a checkpoint.

    Attributes:
        loaded: Names that were in the model and in the checkpoint with equal shapes.
        missing: Names in the model only.
        unused: Names in the checkpoint only.
        mismatched: Names in both with different shapes: (name, shape in the model, shape in the checkpoint).
    """

    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    mismatched: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)

    @property
    def fits(self) -> bool:
        """Whether every tensor of the model and of the checkpoint found its counterpart."""
        return not (self.missing or self.unused or self.mismatched)

    def summary(self) -> str:
        """One line: how many tensors were loaded, missing and unused, with the first names."""
        parts = [f'{len(self.loaded)} tensors loaded']
        for label, names in (('missing', self.missing), ('unused', self.unused)):
            shown = ', '.join(names[:3]) + (', ...' if len(names) > 3 else '')
            parts.append(f'{len(names)} {label}' + (f' ({shown})' if names else ''))
        return ', '.join(parts)


def read_checkpoint(path: str | os.PathLike, map_location: Any = 'cpu') -> dict[str, Any]:
    """Read a checkpoint file without executing anything it carries.

    Args:
        path: A local ``.pth``, ``.pt`` or ``.safetensors`` file.
        map_location: Where its tensors go, as for ``torch.load``. Default: 'cpu'.

    Returns:
        The dictionary in the file; a safetensors file becomes ``{'state_dict': tensors, 'meta': metadata}``.

    Raises:
        UserError: The file is missing, cannot be read, is truncated or damaged, holds objects that only
            unrestricted unpickling would restore, or holds no dictionary.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise UserError(f"checkpoint '{path}' does not exist; check the path.")
    if not path.is_file():
        raise UserError(f"checkpoint '{path}' is a directory; name a file in it.")
    try:
        if path.suffix == '.safetensors':
            return _read_safetensors(path, map_location)
        with _allowed_globals():
            checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except ImportError:
        raise
    except PermissionError as error:
        raise UserError(f"checkpoint '{path}' cannot be read; check its permissions.") from error
    except pickle.UnpicklingError as error:
        if named := re.search(r'(?:GLOBAL|attribute) (\S+)', str(error)):
            raise UserError(
                f"checkpoint '{path}' holds more than tensors and plain data, and restoring it would run code from "
                f'the file ({named[1]}); ask its author for a state dict or a safetensors file.'
            ) from error
        raise _damaged(path, error) from error
    except Exception as error:  # a damaged file makes the reader fail in any way
        raise _damaged(path, error) from error
    if not isinstance(checkpoint, dict):
        raise UserError(
            f"checkpoint '{path}' holds a {type(checkpoint).__name__}, expected a dictionary of tensors; "
            'save model.state_dict() instead.'
        )
    return checkpoint


def _read_safetensors(path: Path, map_location: Any) -> dict[str, Any]:
    try:
        from safetensors import safe_open
    except ImportError as error:
        raise UserError(
            f"'{path}' needs the package safetensors; install it with 'pip install safetensors'."
        ) from error
    with safe_open(path, framework='pt', device=str(map_location or 'cpu')) as file:
        return {'state_dict': {name: file.get_tensor(name) for name in file.keys()}, 'meta': file.metadata() or {}}


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(
        f"checkpoint '{path}' is truncated or damaged ({type(error).__name__}: {_first_sentence(error)}); "
        'copy or download it again.'
    )


def _first_sentence(error: Exception) -> str:
    text = ' '.join(str(error).split())
    return text.split('. ')[0][:200].rstrip('.')


def _history_buffer_attribute(owner: Any, name: str) -> Any:
    """Stands in for ``getattr`` in MMEngine's pickled log history, which refers to four methods by name."""
    from mmengine.logging import HistoryBuffer

    if owner is HistoryBuffer and name in ('min', 'max', 'mean', 'current'):
        return getattr(HistoryBuffer, name)
    raise pickle.UnpicklingError(f'Unsupported attribute {name!r}')


def _allowed_globals() -> contextlib.AbstractContextManager:
    """What ``weights_only`` may build besides tensors: the numpy arrays of MMEngine's log history, the options that
    the released training code saves, and nothing else.
    """
    if not hasattr(torch.serialization, 'safe_globals'):  # torch before 2.5
        return contextlib.nullcontext()
    allowed: list[Any] = [argparse.Namespace]
    try:
        import numpy
        from mmengine.logging import HistoryBuffer
    except ImportError:
        return torch.serialization.safe_globals(allowed)
    core = numpy._core if hasattr(numpy, '_core') else numpy.core
    for home in ('numpy._core.multiarray', 'numpy.core.multiarray'):
        allowed += [
            (core.multiarray._reconstruct, f'{home}._reconstruct'),
            (core.multiarray.scalar, f'{home}.scalar'),
        ]
    allowed += [numpy.ndarray, numpy.dtype, HistoryBuffer, (_history_buffer_attribute, 'builtins.getattr')]
    allowed += [type(numpy.dtype(name)) for name in ('bool', 'int32', 'int64', 'uint32', 'float32', 'float64')]
    return torch.serialization.safe_globals(allowed)


def state_dict_of(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """The state dict in a checkpoint: under 'state_dict' (MMEngine) or 'model' (released code), or the bare dict.

    A ``module.`` in front of every name, left by DistributedDataParallel, is removed.

    Raises:
        UserError: There are no tensors.
    """
    state = next((checkpoint[key] for key in STATE_DICT_KEYS if isinstance(checkpoint.get(key), dict)), checkpoint)
    state = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    if not state:
        raise UserError(
            f'the checkpoint holds no tensors under {" or ".join(map(repr, STATE_DICT_KEYS))} or at its top level; '
            f'it has the entries {", ".join(map(repr, list(checkpoint)[:8])) or "(none)"}.'
        )
    if all(name.startswith('module.') for name in state):
        state = {name[len('module.') :]: value for name, value in state.items()}
    return state


def compare(model_state: dict[str, Tensor], state: dict[str, Tensor]) -> LoadReport:
    """Match the names and shapes of a model's state dict with those of a checkpoint's."""
    report = LoadReport()
    for name, tensor in model_state.items():
        if name not in state:
            report.missing.append(name)
        elif tensor.shape != state[name].shape:
            report.mismatched.append((name, tuple(tensor.shape), tuple(state[name].shape)))
        else:
            report.loaded.append(name)
    report.unused = [name for name in state if name not in model_state]
    return report


def load_pretrained(
    model: nn.Module, path: str | os.PathLike, prefix: str | None = None, map_location: Any = 'cpu'
) -> LoadReport:
    """Load the weights of a checkpoint into a backbone and say in one log line how many tensors went where.

    The released checkpoints (``{'model': state_dict}``), MMEngine's (``{'state_dict': ...}``) and bare state dicts
    load, with or without a classification head; tensors the model has no place for are counted as unused.

    Args:
        model: The backbone.
        path: Checkpoint file, or an http(s) address.
        prefix: Take only the tensors whose names start with it, and remove it; 'backbone.' picks the backbone
            of a detector, segmentor or mmpretrain classifier. Default: None, the names as they are.
        map_location: Where the tensors are read to. Default: 'cpu'.

    Returns:
        The report.

    Raises:
        UserError: Nothing would be loaded, a tensor has another shape, or the file is not a readable checkpoint.
    """
    if str(path).startswith(('http://', 'https://')):
        checkpoint = torch.hub.load_state_dict_from_url(str(path), map_location=map_location, weights_only=True)
    else:
        checkpoint = read_checkpoint(path, map_location)
    state = state_dict_of(checkpoint)
    if prefix:
        state = _select(state, prefix, path)
    own = model.state_dict()
    report = compare(own, state)
    kind = type(model).__name__
    if report.mismatched:
        name, expected, found = report.mismatched[0]
        raise UserError(
            f"checkpoint '{path}' belongs to another model: {name} is {found} there and {expected} in this {kind} "
            f'({len(report.mismatched)} tensors differ in shape); check the arch.'
        )
    if not report.loaded:
        raise UserError(
            f"checkpoint '{path}' holds none of the {len(own)} tensors of this {kind}; "
            f'its names begin with {", ".join(sorted({name.split(".")[0] for name in state})[:8])}'
            + (f'; a prefix of {hint!r} would match.' if (hint := _prefix_hint(own, state)) else '.')
        )
    model.load_state_dict({name: state[name] for name in report.loaded}, strict=False)
    _log(f"{kind} from '{path}': {report.summary()}")
    return report


def _select(state: dict[str, Tensor], prefix: str, path: str | os.PathLike) -> dict[str, Tensor]:
    prefix = prefix if prefix.endswith('.') else prefix + '.'
    selected = {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}
    if not selected:
        raise UserError(
            f"checkpoint '{path}' has no tensor whose name starts with {prefix!r}; "
            f'its names begin with {", ".join(sorted({name.split(".")[0] for name in state})[:8])}.'
        )
    return selected


def _prefix_hint(own: dict[str, Tensor], state: dict[str, Tensor]) -> str | None:
    for name in state:
        for i, character in enumerate(name):
            if character == '.' and name[i + 1 :] in own:
                return name[: i + 1]
    return None


def _log(message: str) -> None:
    try:
        from mmengine.logging import print_log
    except ImportError:
        print(message)
    else:
        print_log(message, logger='current')


def use_safe_loader() -> None:
    """Make MMEngine read every local checkpoint through :func:`read_checkpoint`.

    MMEngine loads whole models, so that a checkpoint with the released names is read as an mmpretrain classifier's:
    ``tools/test.py``, ``load_from`` and a classifier's ``init_cfg`` take it with its head, detectors its backbone.
    """
    from mmengine.runner.checkpoint import CheckpointLoader

    def load_from_mmatconv(filename: str, map_location: Any = None) -> dict[str, Any]:
        checkpoint = read_checkpoint(filename, map_location or 'cpu')
        if not any(isinstance(value, dict | Tensor) for value in checkpoint.values()):
            return checkpoint
        state = state_dict_of(checkpoint)
        if not is_released(state):
            return checkpoint
        _log(f"'{filename}' has the released names; read as a classifier: NAME is backbone.NAME, head.* is head.fc.*")
        meta = checkpoint.get('meta')
        state = {to_classifier(name): value for name, value in state.items()}
        return {'state_dict': state, 'meta': meta if isinstance(meta, dict) else {}}

    CheckpointLoader.register_scheme(prefixes='', loader=load_from_mmatconv, force=True)


def refuse_other_sizes(backbone: nn.Module) -> None:
    """Make a backbone refuse tensors of other shapes in whatever state dict it is given, as part of a model or alone.

    MMEngine skips them with a warning, and leaves a backbone of which only the odd tensor is pretrained.
    """
    backbone._register_load_state_dict_pre_hook(partial(_check_sizes, backbone))


def _check_sizes(backbone: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    report = compare({prefix + name: value for name, value in backbone.state_dict().items()}, state)
    if report.mismatched:
        name, expected, found = report.mismatched[0]
        name = name.removeprefix('module.')  # MMEngine's averaged model
        raise UserError(
            f'the checkpoint belongs to another model: {name} is {found} there and {expected} in this '
            f'{type(backbone).__name__} ({len(report.mismatched)} tensors differ in shape); check the arch.'
        )
