"""Runs and costs of a study as one file, and what earlier sessions or other machines found."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from mmatconv.analysis.benchmark.machine import machine, versions
from mmatconv.analysis.study.costs import Cost, measure_costs
from mmatconv.analysis.study.protocol import Run, Study
from mmatconv.analysis.study.results import Result, Results, read_json, write_json
from mmatconv.errors import UserError

# In the folder of a study: all runs by name, what the competitors cost, and on which machine.
COLLECTED = 'results.json'


def runs_of(study: Study, results: Results) -> dict[str, Result]:
    """The runs that the protocol asks for and that are there, by name, in its order."""
    found: dict[str, Result] = {}
    for name in study.members:
        rate = results.chosen(name)
        runs: list[Run] = study.searches(name) + ([] if rate is None else study.results(name, rate))
        found.update({run.name: result for run in runs if (result := results.get(run))})
    return found


def collect(
    study: Study,
    results: Results,
    earlier: Mapping[str, Any],
    command: str,
    time: bool | None,
    tick: Callable[[], None],
) -> dict[str, Any]:
    """Write everything that is known to ``results.json``.

    Args:
        study: The protocol.
        results: Its results.
        earlier: The content of such a file from another session, or an empty one.
        command: That anyone repeats it with.
        time: Count and time the competitors, all again: times of two sessions do not belong into one table. False for
            never, None for where one of them lacks it.
        tick: Called after every reading.

    Returns:
        The content of the file.
    """
    path = results.folder / COLLECTED
    known = read_json(path) if path.is_file() else earlier
    costs, timed_on = known.get('costs', {}), known.get('timed_on')
    on = machine('cuda' if torch.cuda.is_available() else 'cpu')
    if time or (time is None and not set(study.members) <= set(costs)):
        costs = {name: asdict(cost) for name, cost in measure_costs(study, study.members, tick=tick).items()}
        timed_on = on
    content = dict(
        study=study.name,
        command=command,
        versions=versions(),
        timed_on=timed_on,
        costs=costs,
        runs={name: asdict(result) for name, result in runs_of(study, results).items()},
    )
    write_json(path, content)
    return content


def costs_in(content: Mapping[str, Any]) -> dict[str, Cost]:
    """The costs by competitor of what :func:`collect` returned."""
    return {name: Cost(**entry) for name, entry in content['costs'].items()}


def read_collected(path: str | Path, study: str) -> dict[str, Any]:
    """The content of a ``results.json`` of the study of a name.

    Raises:
        UserError: It cannot be read, or is of another study.
    """
    try:
        content = json.loads(Path(path).read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise UserError(f"'{path}' cannot be read as JSON ({error}); name a results.json of study.py.") from error
    if not isinstance(content, dict) or content.get('study') != study:
        raise UserError(f"'{path}' holds no results of the study '{study}'; name its results.json.")
    return content
