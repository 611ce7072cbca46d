"""The whole check: stage after stage in processes of their own, each with a deadline, results written after each."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch

from mmatconv.analysis.gpu_check.record import FAILED, LEFT_OUT, NEEDS_GPU, PASSED, check_text, table_text
from mmatconv.analysis.gpu_check.stages import DETECTOR_STAGES, STAGES, Stage
from mmatconv.errors import UserError
from mmatconv.ops.paths import VARIABLE

WORKER = 'mmatconv.analysis.gpu_check.worker'
ROOT = Path(__file__).resolve().parents[3]
LOG_LINES = 15
# Deadlines are for a GPU; the interpreter on a busy machine may take this many times as long.
CPU_PATIENCE = 5


def run(out: Path, names: list[str] | None, detectors: bool, cpu: bool) -> int:
    """Run the check.

    Args:
        out: A new or an empty folder for the results.
        names: The stages to run. Default: None, all.
        detectors: The stages that need mmcv and mmdet instead.
        cpu: On the CPU, in small.

    Returns:
        How many checks failed.

    Raises:
        UserError: An unknown stage, no GPU, or a folder that cannot be used.
    """
    stages = chosen_stages(names, DETECTOR_STAGES if detectors else STAGES)
    if not cpu and not torch.cuda.is_available():
        raise UserError('torch sees no GPU; use --cpu to run what a CPU can')
    prepare(out)
    results: dict[str, dict] = {}
    for number, (name, stage) in enumerate(stages.items(), start=1):
        seconds = stage.deadline * (CPU_PATIENCE if cpu else 1)
        print(f'{number}/{len(stages)} {name}, at most {seconds} s', flush=True)
        results[name] = run_stage(name, stage, 'cpu' if cpu else 'cuda', seconds, out)
        write(results, out)
    print(summary(results, out))
    return counts(results)[FAILED]


def chosen_stages(names: list[str] | None, stages: Mapping[str, Stage]) -> dict[str, Stage]:
    """The stages of those names, all without names.

    Raises:
        UserError: A name that does not exist.
    """
    for name in names or ():
        if name not in stages:
            raise UserError(f"--stages: there is no stage '{name}'; choose from {', '.join(stages)}")
    return {name: stage for name, stage in stages.items() if not names or name in names}


def prepare(out: Path) -> None:
    """Make the folder for results.

    Raises:
        UserError: There is something in it, or it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise UserError(f"--out '{out}' is not empty; delete what is there or name another folder")
    except OSError as error:
        raise UserError(f"--out '{out}' cannot be made or read ({error.strerror}); name another folder") from None


def run_stage(name: str, stage: Stage, device: str, deadline: int, out: Path) -> dict:
    """Run a stage to its end or its deadline; what it had found by then counts."""
    file = out / 'current_stage.json'
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])}
    environment.pop(VARIABLE, None)
    if stage.forced:
        environment[VARIABLE] = 'triton'
    if device == 'cpu':
        environment.update(CUDA_VISIBLE_DEVICES='', TRITON_INTERPRET='1')
    start = time.perf_counter()
    with (out / 'log.txt').open('a', encoding='utf-8') as log:
        log.write(f'---- {name}\n')
        log.flush()
        begin = log.tell()
        process = subprocess.Popen(
            [sys.executable, '-m', WORKER, name, device, str(file)],
            env=environment,
            stderr=log,
            start_new_session=True,
        )
        try:
            reason = None if process.wait(deadline) == 0 else f'ended with status {process.returncode}'
        except subprocess.TimeoutExpired:
            reason = f'did not end within {deadline} s'
        finally:
            end(process)
    result = dict(checks=[], tables=[], finished=False)
    if file.exists():
        result = json.loads(file.read_text(encoding='utf-8'))
        file.unlink()
    result['seconds'] = round(time.perf_counter() - start, 1)
    if reason is not None:
        result['checks'].append(dict(name=f'stage {name}', status=FAILED, detail=reason, seconds=result['seconds']))
        print(check_text(result['checks'][-1]))
        with (out / 'log.txt').open(encoding='utf-8', errors='replace') as log:
            log.seek(begin)
            print(*(f'    {line.rstrip()}' for line in log.readlines()[-LOG_LINES:]), sep='\n', flush=True)
    return result


def end(process: subprocess.Popen) -> None:
    """End a stage and what it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def write(results: Mapping[str, dict], out: Path) -> None:
    """Everything found so far: results.json, and results.txt to be read."""
    (out / 'results.json').write_text(json.dumps(results, indent=1) + '\n', encoding='utf-8')
    lines = []
    for name, result in results.items():
        lines.append(f'{name}, {result["seconds"]} s')
        lines += [table_text(table) for table in result['tables']]
        lines += [check_text(check) for check in result['checks']]
    (out / 'results.txt').write_text('\n'.join([*lines, summary(results, out)]) + '\n', encoding='utf-8')


def counts(results: Mapping[str, dict]) -> Counter:
    """How many checks ended in each way."""
    return Counter(check['status'] for result in results.values() for check in result['checks'])


def summary(results: Mapping[str, dict], out: Path) -> str:
    """The last line."""
    found = counts(results)
    parts = [f'{found[PASSED]} passed', f'{found[FAILED]} failed']
    parts += [f'{found[status]} {word}' for status, word in ((NEEDS_GPU, 'need a GPU'), (LEFT_OUT, 'left out'))
              if found[status]]  # fmt: skip
    return f'gpu_check: {", ".join(parts)}; results are in {out}'
