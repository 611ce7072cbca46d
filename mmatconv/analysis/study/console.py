"""The study as its tool shows it: a line for every run that ends, then table and figure."""

import argparse
import os
import statistics
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress

from mmatconv.analysis.study.collect import collect, read_collected
from mmatconv.analysis.study.execute import last_line
from mmatconv.analysis.study.protocol import Study, read_study
from mmatconv.analysis.study.report import check_page, markdown, plot, write_section
from mmatconv.analysis.study.results import Result, Results, check_fingerprints, write_json
from mmatconv.analysis.study.schedule import Task, finished, run_all, total
from mmatconv.engine.checks.output_paths import check_work_dir
from mmatconv.engine.console.metrics import headline
from mmatconv.errors import UserError


class Lines:
    """Progress: a line for every task that ends, with what is left.

    Args:
        study: The protocol.
        results: What is there.
        jobs: Runs at a time.
    """

    def __init__(self, study: Study, results: Results, jobs: int) -> None:
        self.study, self.results, self.jobs = study, results, jobs
        self.console = Console(stderr=True, highlight=False)

    def __call__(self, task: Task, result: Result) -> None:
        done, count = finished(self.study, self.results), total(self.study)
        seconds = [found.seconds for found in self.results.by_name.values() if found.seconds]
        left = (count - done) * statistics.fmean(seconds) / self.jobs if seconds else 0
        scores = result.test if task.test else result.validation
        metric = self.study.metrics[0]
        outcome = result.failed or f'{"test" if task.test else "validation"} {headline({metric: scores[metric]})}'
        run = task.run
        self.console.print(
            f'{done}/{count} runs, {_duration(left)} left: {run.competitor}, learning rate {run.learning_rate:g}, '
            f'seed {run.seed}: {outcome}',
            soft_wrap=True,
        )


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f'{minutes // 60} h {minutes % 60:02} min' if minutes >= 60 else f'{minutes} min'


def show(args: argparse.Namespace, start: float) -> None:
    """Run a study as the options of tools/analysis_tools/study.py say.

    Raises:
        UserError: An option, the protocol or its config is wrong, or a run died.
    """
    study = read_study(args.study)
    folder = Path(args.out) / study.name
    check_work_dir(str(folder))
    earlier = read_collected(args.earlier, study.name) if args.earlier else {}
    if args.doc:
        # Before hours of training.
        check_page(Path(args.doc), study.name)
    results = Results(study, folder, earlier.get('runs'))
    check_fingerprints(results)
    died = []
    if not args.collect:
        jobs = args.jobs or torch.cuda.device_count() or os.cpu_count() or 1
        deadline = None if args.hours is None else start + 3600 * args.hours
        died = run_all(study, results, jobs, deadline, Lines(study, results, jobs))
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task('timing', total=None)
        command = f'python tools/analysis_tools/study.py {args.study} --out {args.out}'
        when = True if args.time else False if args.collect or died else None
        content = collect(study, results, earlier, command, when, lambda: progress.advance(bar))
    text = markdown(study, results, content)
    page = Path(args.doc or folder / 'report.md')
    if args.doc:
        write_section(page, study.name, text)
        (page.parent / 'study').mkdir(exist_ok=True)
        write_json(page.parent / 'study' / f'{study.name}.json', content)
    else:
        page.write_text(text + '\n', encoding='utf-8')
    plot(study, results, content, page.parent / 'images' / f'study_{study.name}.png')
    print(text)
    if died:
        run = folder / 'runs' / died[0].run.name
        raise UserError(f"run '{run}' ended without a result: {last_line(run)}")
