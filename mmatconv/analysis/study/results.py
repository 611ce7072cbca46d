"""What runs found: kept in a folder for each run, collected into one file."""

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmatconv.analysis.study.protocol import Run, Study, fingerprint
from mmatconv.errors import UserError

# Of a run, in its folder.
RESULT = 'result.json'
# Welch's test: a difference is called one where seeds alone would show it less often.
SIGNIFICANCE = 0.05


@dataclass
class Result:
    """What is known of a run.

    Attributes:
        fingerprint: Of its config, see :func:`~mmatconv.analysis.study.protocol.fingerprint`.
        validation: Metrics on the validation split after the last iteration, by logged name; empty if it failed.
        test: Metrics on the test split; empty until it is evaluated there.
        seconds: The training took, validation included.
        failed: Why it has no result, in one sentence; empty if it has one.
    """

    fingerprint: str
    validation: Mapping[str, float] = field(default_factory=dict)
    test: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    failed: str = ''


def write_json(path: Path, content: Any) -> None:
    """Write whole or not at all."""
    partial = path.with_suffix('.partial')
    partial.write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')
    partial.replace(path)


def read_json(path: Path) -> Any:
    """Read what :func:`write_json` wrote.

    Raises:
        UserError: It is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise UserError(f"'{path}' cannot be read as JSON ({error}); remove it, and its run is repeated.") from error


class Results:
    """The results of a study by run.

    Args:
        study: The protocol.
        folder: With one folder for each run.
        earlier: Runs of another session or machine, by name as in the file ``results.json``. Default: none.
    """

    def __init__(self, study: Study, folder: Path, earlier: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self.study = study
        self.folder = folder
        self.by_name = {name: Result(**entry) for name, entry in (earlier or {}).items()}
        for file in sorted((folder / 'runs').glob(f'*/{RESULT}')):
            self.by_name[file.parent.name] = Result(**read_json(file))

    def get(self, run: Run) -> Result | None:
        """The result of a run; None where there is none yet."""
        return self.by_name.get(run.name)

    def update(self, run: Run) -> Result:
        """Read the result that a run has just written."""
        self.by_name[run.name] = Result(**read_json(self.folder / 'runs' / run.name / RESULT))
        return self.by_name[run.name]

    def chosen(self, competitor: str) -> float | None:
        """The learning rate with the best validation; None until all are tried, or where all failed."""
        found = {run.learning_rate: self.get(run) for run in self.study.searches(competitor)}
        if None in found.values():
            return None
        metric = self.study.metrics[0]
        scores = {rate: result.validation[metric] for rate, result in found.items() if not result.failed}
        return max(scores, key=scores.__getitem__, default=None)

    def tested(self, competitor: str, metric: str) -> list[float]:
        """A competitor's scores on the test split, those of the seeds that are there."""
        rate = self.chosen(competitor)
        runs = [] if rate is None else self.study.results(competitor, rate)
        found = [self.get(run) for run in runs]
        return [result.test[metric] for result in found if result and metric in result.test]


def check_fingerprints(results: Results) -> None:
    """Compare the configs of the results with those of the protocol.

    Raises:
        UserError: A run was made with another config.
    """
    study = results.study
    for name in study.members:
        for run in (run for rate in study.learning_rates for run in study.results(name, rate)):
            result = results.get(run)
            if result and result.fingerprint != fingerprint(study.config_of(run)):
                raise UserError(
                    f"run '{run.name}' was made with another config than '{study.config}' is now; choose another "
                    '--out, or undo the change: results of two protocols cannot be compared.'
                )


def spread(values: list[float]) -> float:
    """The standard deviation between seeds; 0 for one."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def verdict(values: list[float], reference: list[float], seeds: int) -> str:
    """'better', 'worse' or 'no difference shown' than the reference, by Welch's test; '' where seeds are missing."""
    if min(len(values), len(reference)) < max(seeds, 2):
        return ''
    difference = statistics.fmean(values) - statistics.fmean(reference)
    if spread(values) == spread(reference) == 0:
        return 'no difference shown' if difference == 0 else 'better' if difference > 0 else 'worse'
    from scipy.stats import ttest_ind

    if ttest_ind(values, reference, equal_var=False).pvalue >= SIGNIFICANCE:
        return 'no difference shown'
    return 'better' if difference > 0 else 'worse'
