"""What of a checkpoint is loaded into a model, and a report of it; reader.py reads the file."""

import os
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor, nn

from mmatconv.checkpoint.reader import read_checkpoint
from mmatconv.errors import UserError

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


def check_dtypes(model_state: dict[str, Tensor], state: dict[str, Tensor], path: str | os.PathLike) -> None:
    """Refuse dtypes that torch would convert with a loss: integers, booleans or complex numbers for real numbers.

    Half, single and double precision stand for each other.

    Raises:
        UserError: There is such a tensor.
    """
    for name, tensor in model_state.items():
        found = state.get(name)
        if found is None or (found.is_floating_point(), found.is_complex()) == (
            tensor.is_floating_point(),
            tensor.is_complex(),
        ):
            continue
        expected, given = (str(value.dtype).removeprefix('torch.') for value in (tensor, found))
        raise UserError(
            f"checkpoint '{path}' does not fit: {name} holds {given} there and {expected} in this model; "
            'use the checkpoint it was converted from.'
        )


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
    state = state_dict_of(read_checkpoint(path, map_location))
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
    check_dtypes(own, state, path)
    model.load_state_dict({name: state[name] for name in report.loaded}, strict=False)
    log_line(f"{kind} from '{path}': {report.summary()}")
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


def log_line(message: str) -> None:
    """Write a line to MMEngine's current log; without MMEngine, to the standard output."""
    try:
        from mmengine.logging import MMLogger
    except ImportError:
        print(message)
    else:
        # Not by print_log, whose records do not say that they are ours.
        MMLogger.get_current_instance().info(message)


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
