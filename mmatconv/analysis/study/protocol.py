"""What a study compares, and how: the file that is written before the first run."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from mmengine.config import Config

from mmatconv.engine.cli.config_file import load_config
from mmatconv.engine.console.metrics import METRICS
from mmatconv.errors import UserError

ENTRIES = ('title', 'config', 'metrics', 'learning_rates', 'seeds', 'image_size', 'competitors', 'groups')
GROUP_ENTRIES = ('title', 'reference', 'members')


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        competitor: Its name.
        learning_rate: The peak learning rate.
        seed: Of weights, order of the images and augmentation.
    """

    competitor: str
    learning_rate: float
    seed: int

    @property
    def name(self) -> str:
        """For a folder."""
        return f'{slug(self.competitor)}_lr{self.learning_rate:g}_seed{self.seed}'


@dataclass(frozen=True)
class Group:
    """Competitors that answer one question.

    Attributes:
        title: The question or what is compared.
        reference: The competitor that the others are compared with.
        members: All competitors by name, the reference too.
    """

    title: str
    reference: str
    members: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """A protocol.

    Attributes:
        name: The name of its file without the ending.
        title: One line.
        config: The config that all competitors train with: data, schedule, heads, frame.
        metrics: Of the evaluation by logged name; the first one chooses the learning rate and is what is compared.
        learning_rates: The values that each competitor is tried with.
        seeds: Of the result; the first one's runs choose the learning rate.
        image_size: Height and width in pixels at which multiply-adds are counted.
        competitors: What each changes in the config, as ``--cfg-options`` does, by name.
        groups: In the order in which they are run.
    """

    name: str
    title: str
    config: Path
    metrics: tuple[str, ...]
    learning_rates: tuple[float, ...]
    seeds: tuple[int, ...]
    image_size: tuple[int, int]
    competitors: Mapping[str, Mapping[str, Any]]
    groups: tuple[Group, ...]

    @property
    def members(self) -> tuple[str, ...]:
        """The competitors of all groups, each once."""
        return tuple(dict.fromkeys(name for group in self.groups for name in group.members))

    def config_of(self, run: Run) -> Config:
        """The whole config of a run.

        Raises:
            UserError: What the competitor changes does not fit the config.
        """
        options = {
            **self.competitors[run.competitor],
            'optim_wrapper.optimizer.lr': run.learning_rate,
            'randomness.seed': run.seed,
        }
        return load_config(str(self.config), options)

    def searches(self, competitor: str) -> list[Run]:
        """The runs that choose a competitor's learning rate."""
        return [Run(competitor, rate, self.seeds[0]) for rate in self.learning_rates]

    def results(self, competitor: str, learning_rate: float) -> list[Run]:
        """The runs whose models are evaluated on the test split."""
        return [Run(competitor, learning_rate, seed) for seed in self.seeds]


def fingerprint(config: Config) -> str:
    """Changes with everything that a run depends on, and with nothing of where it is written."""
    entries = {key: value for key, value in config.to_dict().items() if key != 'work_dir'}
    return hashlib.sha256(json.dumps(entries, sort_keys=True, default=repr).encode()).hexdigest()[:16]


def slug(name: str) -> str:
    """A name as part of a file name."""
    return re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')


def read_study(path: str | Path) -> Study:
    """Read a protocol.

    Args:
        path: YAML with the entries of :class:`Study` but ``name``; ``config`` is relative to the file.

    Raises:
        UserError: The file cannot be read, an entry is missing, unknown or not what it should be.
    """
    path = Path(path)
    try:
        entries = yaml.safe_load(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise UserError(f"study '{path}' cannot be read ({error.strerror}); name a .yml file.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"study '{path}' is not YAML: {' '.join(str(error).split())}.") from error
    where = f"study '{path}'"
    _check_entries(where, entries, ENTRIES)
    competitors = {
        str(name): dict(changes or {}) for name, changes in _of_kind(where, entries, 'competitors', dict).items()
    }
    slugs = {slug(name) for name in competitors}
    if len(slugs) < len(competitors) or '' in slugs:
        raise UserError(f'{where}: names of competitors must differ in letters and digits: {", ".join(competitors)}.')
    metrics = tuple(_of_kind(where, entries, 'metrics', list))
    if not metrics or any(metric not in METRICS for metric in metrics):
        raise UserError(f'{where}: metrics are {list(metrics)}; choose from {", ".join(METRICS)}.')
    return Study(
        name=path.stem,
        title=str(entries['title']),
        config=path.parent / _of_kind(where, entries, 'config', str),
        metrics=metrics,
        learning_rates=_numbers(where, entries, 'learning_rates', float),
        seeds=_numbers(where, entries, 'seeds', int),
        image_size=_numbers(where, entries, 'image_size', int, 2),
        competitors=competitors,
        groups=tuple(_group(where, group, competitors) for group in _of_kind(where, entries, 'groups', list)),
    )


def _group(where: str, entries: Any, competitors: Mapping[str, Any]) -> Group:
    _check_entries(f'{where}, groups', entries, GROUP_ENTRIES)
    members = tuple(str(name) for name in _of_kind(f'{where}, groups', entries, 'members', list))
    for name in (*members, str(entries['reference'])):
        if name not in competitors:
            raise UserError(f'{where}: there is no competitor {name!r}; there are {", ".join(competitors)}.')
    if entries['reference'] not in members:
        raise UserError(f'{where}: the reference {entries["reference"]!r} must be one of members {list(members)}.')
    return Group(str(entries['title']), str(entries['reference']), members)


def _check_entries(where: str, entries: Any, known: Sequence[str]) -> None:
    if not isinstance(entries, dict):
        raise UserError(f'{where} must have the entries {", ".join(known)}.')
    for name in known:
        if name not in entries:
            raise UserError(f'{where} lacks the entry {name!r}; it needs {", ".join(known)}.')
    for name in entries:
        if name not in known:
            raise UserError(f'{where} has the unknown entry {name!r}; known are {", ".join(known)}.')


def _of_kind(where: str, entries: Mapping[str, Any], name: str, kind: type) -> Any:
    if not isinstance(entries[name], kind) or not entries[name]:
        words = {dict: 'a mapping', list: 'a list', str: 'a text'}
        raise UserError(f'{where}: {name} must be {words[kind]} that is not empty, but is {entries[name]!r}.')
    return entries[name]


def _numbers(where: str, entries: Mapping[str, Any], name: str, kind: type, count: int | None = None) -> tuple:
    values = _of_kind(where, entries, name, list)
    try:
        numbers = tuple(kind(value) for value in values)
    except (TypeError, ValueError):
        numbers = ()
    if not numbers or (count or len(numbers)) != len(numbers) or len(set(numbers)) < len(numbers) * (count is None):
        size = f'{count} numbers' if count else 'numbers that differ'
        raise UserError(f'{where}: {name} must be a list of {size}, but is {values!r}.')
    return numbers
