"""Which run comes next, and several of them at a time."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import connection, get_context
from multiprocessing.process import BaseProcess

import torch

from mmatconv.analysis.study.execute import checkpoint_of, execute
from mmatconv.analysis.study.protocol import Run, Study
from mmatconv.analysis.study.results import RESULT, Result, Results


@dataclass(frozen=True)
class Task:
    """A training, or with ``test`` the evaluation of its model on the test split."""

    run: Run
    test: bool


def tasks(study: Study, results: Results) -> Iterator[Task]:
    """What is still to be done and can be done now, the most decisive first.

    Group by group: the runs that choose the learning rates, then seed by seed. A test follows the training it belongs
    to; of the runs that choose, only the chosen one is tested.
    """
    for group in study.groups:
        for rate in range(len(study.learning_rates)):
            for name in group.members:
                run = study.searches(name)[rate]
                if results.get(run) is None:
                    yield Task(run, test=False)
        for seed in range(len(study.seeds)):
            for name in group.members:
                if (rate := results.chosen(name)) is not None:
                    yield from _result_tasks(study.results(name, rate)[seed], results)


def _result_tasks(run: Run, results: Results) -> Iterator[Task]:
    result = results.get(run)
    if result is None:
        yield Task(run, test=False)
    elif not result.failed and not result.test:
        # The weights of a run on another machine are not here.
        has_weights = checkpoint_of(results.folder / 'runs' / run.name) is not None
        yield Task(run, test=has_weights)


def total(study: Study) -> int:
    """Trainings of the whole study."""
    return len(study.members) * (len(study.learning_rates) + len(study.seeds) - 1)


def finished(study: Study, results: Results) -> int:
    """How many trainings of the protocol are done; a competitor whose every rate failed needs no further ones."""
    count = 0
    for name in study.members:
        searches = study.searches(name)
        count += sum(results.get(run) is not None for run in searches)
        rate = results.chosen(name)
        if rate is not None:
            count += sum(results.get(run) is not None for run in study.results(name, rate)[1:])
        elif all(results.get(run) for run in searches):
            count += len(study.seeds) - 1
    return count


def run_all(
    study: Study, results: Results, jobs: int, deadline: float | None, report: Callable[[Task, Result], None]
) -> list[Task]:
    """Run what is still to be done, each in a process of its own.

    Args:
        study: The protocol.
        results: Those that are there; new ones are added.
        jobs: Processes at a time; with GPUs one each, in turns.
        deadline: Value of ``time.monotonic()`` from which nothing new is started; None for no end.
        report: Called with every task that ends and its result.

    Returns:
        Tasks that ended without a result; after the first one nothing new is started.
    """
    gpus = torch.cuda.device_count()
    if not gpus:
        # Read when the first process starts.
        os.environ['OMP_NUM_THREADS'] = str(max(1, (os.cpu_count() or 1) // jobs))
    context = get_context('forkserver')
    context.set_forkserver_preload(['mmatconv.analysis.study.preloaded'])
    running: dict[int, tuple[Task, BaseProcess]] = {}
    died: list[Task] = []
    try:
        while True:
            busy = {task.run for task, _ in running.values()} | {task.run for task in died}
            # What ended one run without a result, such as data that is not there, ends the others too.
            may_start = not died and (deadline is None or time.monotonic() < deadline)
            for task in tasks(study, results) if may_start else ():
                if len(running) == jobs:
                    break
                if task.run in busy:
                    continue
                slot = next(slot for slot in range(jobs) if slot not in running)
                folder = results.folder / 'runs' / task.run.name
                process = context.Process(
                    target=execute, args=(study, task.run, folder, task.test, slot % gpus if gpus else None)
                )
                process.start()
                running[slot] = task, process
                busy.add(task.run)
            if not running:
                return died
            connection.wait([process.sentinel for _, process in running.values()])
            for slot, (task, process) in list(running.items()):
                if process.is_alive():
                    continue
                del running[slot]
                if process.exitcode or not (results.folder / 'runs' / task.run.name / RESULT).is_file():
                    died.append(task)
                else:
                    report(task, results.update(task.run))
    finally:
        for _, process in running.values():
            process.terminate()
            process.join()
