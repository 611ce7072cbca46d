"""One task of a study in a process of its own: a training, or the evaluation of its model on the test split."""

import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

from mmatconv.analysis.run_report import read_evaluation, read_run
from mmatconv.analysis.study.protocol import Run, Study, fingerprint
from mmatconv.analysis.study.results import RESULT, Result, read_json, write_json
from mmatconv.engine.hooks.nonfinite import GRADIENT, LOSS

# What the console of tools/train.py and tools/test.py would show.
CONSOLE = 'console.log'


def checkpoint_of(folder: Path) -> Path | None:
    """The weights that a training left in its folder; None if there are none."""
    last = folder / 'last_checkpoint'
    path = folder / Path(last.read_text(encoding='utf-8').strip()).name if last.is_file() else None
    return path if path and path.is_file() else None


def execute(study: Study, run: Run, folder: Path, test: bool, gpu: int | None) -> None:
    """Train, or evaluate on the test split, as tools/train.py and tools/test.py do, and write the result.

    Args:
        study: The protocol.
        run: The run.
        folder: Its folder, for config, log, weights and result.
        test: Evaluate the trained model instead of training it.
        gpu: Index of the GPU to use; None for the CPU.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if gpu is not None:
        os.environ['CUDA_VISIBLE_DEVICES'] = str(gpu)
    console = os.open(folder / CONSOLE, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(console, stream)
    write_json(folder / RESULT, asdict(_test(run, folder) if test else _train(study, run, folder)))


def _train(study: Study, run: Run, folder: Path) -> Result:
    from mmatconv.engine.cli.train import train

    config = study.config_of(run)
    result = Result(fingerprint(config))
    config.dump(folder / 'config.py')
    resume = ['--resume'] if checkpoint_of(folder) else []
    start = time.monotonic()
    status = train([str(folder / 'config.py'), '--work-dir', str(folder), *resume])
    result.seconds = round(time.monotonic() - start, 1)
    if status:
        result.failed = _end(status, folder)
    else:
        metrics = read_run(folder).metrics
        result.validation = {name: metrics[name][-1][1] for name in study.metrics if name in metrics}
        if missing := [name for name in study.metrics if name not in metrics]:
            result.failed = f'its validation gives no {", ".join(missing)}, but {", ".join(metrics) or "nothing"}'
    return result


def _test(run: Run, folder: Path) -> Result:
    from mmatconv.engine.cli.test import test

    result = Result(**read_json(folder / RESULT))
    status = test([str(folder / 'config.py'), str(checkpoint_of(folder)), '--work-dir', str(folder / 'test')])
    if status:
        sys.exit(status)
    result.test = read_evaluation(folder / 'test')
    return result


def last_line(folder: Path) -> str:
    """The sentence that the tool of a run ended with."""
    lines = (folder / CONSOLE).read_text(encoding='utf-8', errors='replace').strip().splitlines()
    return lines[-1].removeprefix('error: ') if lines else 'it said nothing'


def _end(status: int, folder: Path) -> str:
    """Why a training diverged, which is a result; any other end is none, and the run is repeated by the next call."""
    sentence = last_line(folder)
    if LOSS not in sentence and GRADIENT not in sentence:
        sys.exit(status)
    return sentence
