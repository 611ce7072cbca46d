"""Architectures by name or as a dict."""

from collections.abc import Mapping
from typing import Any

from mmatconv.errors import UserError


def resolve_arch(
    name: str,
    arch: str | Mapping[str, Any],
    settings: Mapping[str, dict[str, Any]],
    per_stage: Mapping[str, Any],
    flags: Mapping[str, Any],
) -> dict[str, Any]:
    """The settings of an architecture given by name or as a dict.

    Args:
        name: Class name, for messages.
        arch: A name of ``settings`` in upper or lower case, or a dict with entries of ``per_stage`` and ``flags``.
        settings: Named architectures.
        per_stage: Entries with one value for each stage and their defaults; None marks a required one. A single
            number stands for itself at every stage.
        flags: Entries with one value and their defaults.

    Returns:
        Every entry; those per stage as lists of equal length.

    Raises:
        UserError: An unknown name or entry, a missing entry, or lists of unequal length.
    """
    if isinstance(arch, str):
        names = {key.lower(): key for key in settings}
        if arch.lower() not in names:
            raise UserError(f'{name} has no arch {arch!r}; choose from {", ".join(settings)}, or give a dict.')
        arch = settings[names[arch.lower()]]
    known = [*per_stage, *flags]
    for key in arch:
        if key not in known:
            raise UserError(f'{name}: an arch dict has no entry {key!r}; it may have {", ".join(known)}.')
    for key, default in per_stage.items():
        if default is None and key not in arch:
            raise UserError(f'{name}: an arch dict needs the entry {key!r}, a list with one value for each stage.')
    resolved = {**per_stage, **flags, **arch}
    stages = len(resolved['depths'])
    for key in per_stage:
        value = resolved[key]
        resolved[key] = [value] * stages if isinstance(value, int | float) else list(value)
        if len(resolved[key]) != stages:
            raise UserError(f'{name}: the arch has {len(resolved[key])} {key} for {stages} depths; give one each.')
    return resolved
