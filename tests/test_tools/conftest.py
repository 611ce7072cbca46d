"""Runs the tools as a user would: in processes of their own, from a folder that is not the project's."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmatconv.datasets import write_shapes

from .forked import run_tool

PROJECT = Path(__file__).resolve().parents[2]
CONFIGS = Path(__file__).parent / 'configs'


@dataclass
class Outcome:
    """How a tool ended."""

    status: int
    output: str
    errors: str

    @property
    def sentence(self) -> str:
        """The one line for the user: what follows 'error: ', of which there must be one."""
        lines = [line for line in self.errors.splitlines() if 'error: ' in line]
        assert len(lines) == 1, self.errors
        assert 'Traceback' not in self.output + self.errors
        return lines[0].partition('error: ')[2]

    def scalars(self, log: Path) -> list[dict]:
        """The lines of a scalars.json."""
        return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.fixture(scope='session')
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated images as COCO, ADE20K and class folders."""
    root = tmp_path_factory.mktemp('data') / 'shapes'
    write_shapes(root, train=4, val=5, size=96)
    for index, name in enumerate(('dark', 'light')):
        folder = root / 'cls' / name
        folder.mkdir(parents=True)
        for number in range(2):
            cv2.imwrite(str(folder / f'{number}.png'), np.full((64, 64, 3), 60 + 130 * index, dtype=np.uint8))
    return root


@pytest.fixture(scope='session')
def environment(shapes: Path) -> dict[str, str]:
    """The variables of a run in a fresh shell, and no GPU.

    These tests are about what the tools do with configs, files, signals and processes. Several run at once, some start
    two processes, which want a GPU each, and some compare runs bit by bit. tools/gpu_check.py runs training and
    evaluation on a GPU.
    """
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(('SLURM_', 'MASTER_', 'MMATCONV_'))
    }
    return {**kept, 'SHAPES': str(shapes), 'PYTHON': sys.executable, 'CUDA_VISIBLE_DEVICES': ''}


def path_of(config: str) -> str:
    """`tests/test_tools/configs` is where configs named without a folder are."""
    return str(CONFIGS / config if '/' not in config else config)


@pytest.fixture(scope='session')
def start(environment: dict[str, str]) -> Callable[..., subprocess.Popen]:
    """Starts a tool."""

    def call(tool: str, config: str, *args: object, cwd: Path, **variables: str) -> subprocess.Popen:
        script = PROJECT / 'tools' / tool
        command = [sys.executable, str(script)] if tool.endswith('.py') else [str(script)]
        return subprocess.Popen(
            [*command, path_of(config), *map(str, args)],
            cwd=cwd,
            env={**environment, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return call


@pytest.fixture(scope='session')
def run(
    start: Callable[..., subprocess.Popen], environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Outcome]:
    """Runs a tool to its end."""

    def call(tool: str, config: str, *args: object, cwd: Path, **variables: str) -> Outcome:
        if not tool.endswith('.py'):
            process = start(tool, config, *args, cwd=cwd, **variables)
            output, errors = process.communicate(timeout=300)
            return Outcome(process.returncode, output, errors)
        streams = [tmp_path_factory.mktemp('streams') / name for name in ('output', 'errors')]
        command = [path_of(config), *map(str, args)]
        status = run_tool(PROJECT / 'tools' / tool, command, cwd, {**environment, **variables}, streams)
        return Outcome(status, *(stream.read_text() for stream in streams))

    return call


@pytest.fixture
def writers(environment: dict[str, str], tmp_path: Path) -> Callable[[], dict[str, set[str]]]:
    """Sees which processes write which files: its ``variables`` for a run, then a call for the ranks by file.

    A process that writes a file under a name of its own first, and then renames it, is the writer of that name.
    """
    notes = tmp_path / '.writers'
    path = os.pathsep.join([str(Path(__file__).parent / 'note_writers'), environment['PYTHONPATH']])

    def read() -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for line in notes.read_text().splitlines():
            rank, file = line.split(' ', 1)
            if Path(file).is_relative_to(tmp_path) and Path(file).is_file():
                found.setdefault(str(Path(file).relative_to(tmp_path)), set()).add(rank)
        notes.unlink()
        return found

    read.variables = dict(PYTHONPATH=path, WRITERS=str(notes))
    return read


@pytest.fixture(scope='session')
def detector(run: Callable[..., Outcome], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work dir of a Mask R-CNN trained for two epochs with --auto-scale-lr."""
    folder = tmp_path_factory.mktemp('detector')
    outcome = run('train.py', 'det.py', '--auto-scale-lr', cwd=folder)
    assert outcome.status == 0, outcome.errors
    return folder / 'work_dirs' / 'det'
