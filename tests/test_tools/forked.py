"""Tools in processes of their own that need not import torch and MMEngine again, which takes most of a short run.

They are forked from a server that has imported both and nothing of this project, mmdet, mmseg or mmpretrain.
"""

import atexit
import multiprocessing
import os
import runpy
import sys
from pathlib import Path

import torch

PRELOADED = ['mmengine.runner', 'mmcv.ops', 'mmcv.transforms', 'imgaug', 'torchvision', 'matplotlib.pyplot']


def run_tool(script: Path, arguments: list[str], cwd: Path, environment: dict[str, str], streams: list[Path]) -> int:
    """Runs a Python tool as ``python SCRIPT ARGUMENTS`` does.

    Args:
        script: Its file.
        arguments: Its command line.
        cwd: Where it runs.
        environment: Its variables.
        streams: Files for what it prints, and for its errors.

    Returns:
        Its exit status, or minus the signal that ended it.
    """
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(PRELOADED)
    # By its path: the server knows no module of the tests.
    job = dict(script=str(script), arguments=arguments, cwd=str(cwd), environment=environment, streams=streams)
    process = context.Process(target=runpy.run_path, args=(__file__, dict(job=job), '__tool__'))
    process.start()
    process.join(300)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f'{script} {arguments} still runs after 300 s')
    return process.exitcode


def _be_the_tool(script: str, arguments: list[str], cwd: str, environment: dict[str, str], streams: list[Path]) -> None:
    for handle, path in enumerate(streams, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), handle)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    if 'OMP_NUM_THREADS' in environment:
        # OpenMP read the variable of the server when that imported torch.
        torch.set_num_threads(int(environment['OMP_NUM_THREADS']))
    sys.argv = [script, *arguments]
    sys.path = [str(Path(script).parent), *environment['PYTHONPATH'].split(os.pathsep), *sys.path]
    try:
        runpy.run_path(script, run_name='__main__')
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == '__tool__':
    _be_the_tool(**globals()['job'])
