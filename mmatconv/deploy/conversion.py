"""A state dict made from a checkpoint, how it is written, and a table of what changed."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmatconv.checkpoint.loading import STATE_DICT_KEYS
from mmatconv.checkpoint.names import RULES
from mmatconv.errors import UserError

SUFFIXES = ('.pth', '.safetensors')


@dataclass
class Conversion:
    """A state dict made from a checkpoint file, and what changed on the way.

    Attributes:
        source: The file.
        before: The state dict in it.
        after: The state dict made from it.
        renamed: Its new name for each tensor that has one.
        dropped: Entries of the file left behind, and what they were.
        meta: Plain notes saved beside the tensors.
        model: What the shapes were checked against; empty where nothing was.
        key: The entry of a ``.pth`` file that the state dict goes to.
    """

    source: Path
    before: dict[str, Tensor]
    after: dict[str, Tensor]
    renamed: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    model: str = ''
    key: str = 'state_dict'


def rename(
    source: str | os.PathLike,
    checkpoint: Mapping[str, Any],
    state: dict[str, Tensor],
    renamed: Mapping[str, str],
    model: str = '',
    key: str = 'state_dict',
) -> Conversion:
    """The conversion of a checkpoint whose tensors get the names in `renamed` and keep them elsewhere.

    Args:
        source: The file.
        checkpoint: What was read from it.
        state: The state dict in it.
        renamed: New names by old ones; names that are missing stay.
        model: What the shapes were checked against. Default: '', nothing.
        key: The entry of a ``.pth`` file that the state dict goes to. Default: 'state_dict'.
    """
    # A view would be saved with all of the storage behind it.
    after = {renamed.get(name, name): tensor.detach().clone().contiguous() for name, tensor in state.items()}
    home = next((name for name in STATE_DICT_KEYS if isinstance(checkpoint.get(name), dict)), None)
    left = {name: value for name, value in checkpoint.items() if name != home and (home or name not in state)}
    if home:
        left |= {f'{home}.{name}': value for name, value in checkpoint[home].items() if not isinstance(value, Tensor)}
    dropped = {name: _describe(value) for name, value in left.items()}
    return Conversion(Path(source).expanduser(), state, after, dict(renamed), dropped, {}, model, key)


def save(conversion: Conversion, target: str | os.PathLike) -> Path:
    """Write a converted checkpoint: ``.safetensors`` holds the tensors alone, ``.pth`` under ``conversion.key``.

    Raises:
        UserError: The file exists, or its name ends otherwise.
    """
    target = Path(target).expanduser()
    check_target(target)
    partial = _write(conversion, target, target.suffix)
    os.replace(partial, target)
    return target


def save_published(conversion: Conversion, prefix: str | os.PathLike, suffixes: Sequence[str] = SUFFIXES) -> list[Path]:
    """Write ``PREFIX-xxxxxxxx.pth`` and ``PREFIX-xxxxxxxx.safetensors``, or one of them, x the sha256 of each file.

    Raises:
        UserError: One of the files exists.
    """
    prefix = Path(prefix).expanduser()
    if prefix.suffix in SUFFIXES:
        prefix = prefix.with_suffix('')
    partials: list[Path] = []
    targets: list[Path] = []
    try:
        for suffix in suffixes:
            partials.append(_write(conversion, prefix, suffix))
            digest = hashlib.sha256(partials[-1].read_bytes()).hexdigest()
            targets.append(prefix.with_name(f'{prefix.name}-{digest[:8]}{suffix}'))
            check_target(targets[-1])
        for partial, target in zip(partials, targets):
            os.replace(partial, target)
    finally:
        for partial in partials:
            partial.unlink(missing_ok=True)
    return targets


def check_target(target: str | os.PathLike) -> None:
    """Refuse a file that exists, or whose name says no format, before anything long is done.

    Raises:
        UserError: It does.
    """
    target = Path(target).expanduser()
    if target.suffix not in SUFFIXES:
        raise UserError(f"'{target}' must end in {' or '.join(SUFFIXES)}.")
    if target.exists():
        raise UserError(f"'{target}' exists already; delete it or choose another name.")


def report_rows(conversion: Conversion, targets: list[Path]) -> list[tuple[str, str, str]]:
    """What changed: (what, before, after), for a table."""
    rows = [
        ('file', str(conversion.source), '\n'.join(map(str, targets))),
        ('size', _size(conversion.source.stat().st_size), '\n'.join(_size(path.stat().st_size) for path in targets)),
        ('tensors', str(len(conversion.before)), str(len(conversion.after))),
        ('their size', *(_size(_bytes(state.values())) for state in (conversion.before, conversion.after))),
        ('their types', *(_types(state) for state in (conversion.before, conversion.after))),
    ]
    if conversion.model:
        rows.insert(0, ('model', '', conversion.model))
    changes = Counter(_rule(name, new) for name, new in conversion.renamed.items())
    for (old, new), count in changes.items():
        rows.append((f'renamed: {count}', old, new))
    if kept := len(conversion.after) - len(conversion.renamed):
        rows.append((f'names kept: {kept}', '', ''))
    rows += [('dropped', name if not what else f'{name}: {what}', '') for name, what in conversion.dropped.items()]
    if conversion.meta:
        rows.append(('notes kept', '', ', '.join(conversion.meta)))
    return rows


def _write(conversion: Conversion, target: Path, suffix: str) -> Path:
    """Write to a file beside `target`, so that no half of a checkpoint ever has its name."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"folder '{target.parent}' cannot be made ({error.strerror}); choose another.") from error
    partial = target.with_name(f'{target.name}{suffix}.partial')
    try:
        # Through a stream: torch writes the name of a file into it, so that equal weights would make unequal files.
        with partial.open('wb') as stream:
            if suffix == '.safetensors':
                from safetensors.torch import save as to_bytes

                # One entry: safetensors writes several in any order, so that equal weights would make unequal files.
                notes = {'notes': json.dumps(conversion.meta, default=_plain)} if conversion.meta else {'format': 'pt'}
                stream.write(to_bytes(conversion.after, metadata=notes))
            else:
                notes = {'meta': conversion.meta} if conversion.meta else {}
                torch.save({conversion.key: conversion.after, **notes}, stream)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return partial


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, 'tolist') else str(value)


def _rule(old: str, new: str) -> tuple[str, str]:
    """'head.weight', 'head.fc.weight' -> 'head.*', 'head.fc.*'."""
    for released, ours in RULES:
        if old.startswith(released) and new == ours + old[len(released) :]:
            return f'{released}*', f'{ours}*'
    return _rule(new, old)[::-1]


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _types(state: Mapping[str, Tensor]) -> str:
    counts = Counter(str(tensor.dtype).removeprefix('torch.') for tensor in state.values())
    return ', '.join(f'{count} {name}' for name, count in counts.most_common())


def _size(count: int) -> str:
    return f'{count / 1e6:,.2f} MB' if count >= 1e4 else f'{count} bytes'


def _describe(value: Any) -> str:
    tensors = list(_tensors_in(value))
    return f'{len(tensors)} tensors, {_size(_bytes(tensors))}' if tensors else type(value).__name__


def _tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors_in(part)
