"""Children of a tool end when they are told to, and with it."""

import signal
import subprocess
import sys

POOL = """
import multiprocessing, time
from mmatconv.engine.cli import report

def main(progress):
    with multiprocessing.get_context('fork').Pool(2) as pool:  # ends its processes by SIGTERM and waits for them
        print(pool.map(abs, [-1, -2]), flush=True)
        pool.apply_async(time.sleep, (1000,))
        time.sleep(0.5)

raise SystemExit(report.run(main))
"""


def test_a_pool_inside_a_tool_ends():
    done = subprocess.run([sys.executable, '-c', POOL], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, '[1, 2]\n'), done.stderr


WORKERS = """
import os, signal, time
from torch.utils.data import DataLoader
from mmatconv.engine.cli import report

def main(progress):
    loader = iter(DataLoader(range(100), num_workers=1))
    print(int(next(loader)[0]), flush=True)
    try:
        time.sleep(1000)
    finally:  # ends while the interruption is on its way, as a worker of another start method does by the signal itself
        os.kill(loader._workers[0].pid, signal.SIGKILL)
        time.sleep(0.5)

raise SystemExit(report.run(main))
"""


def test_an_interruption_that_ends_data_workers_too_is_one_line():
    process = subprocess.Popen(
        [sys.executable, '-c', WORKERS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == '0\n'
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (128 + signal.SIGTERM, 'interrupted\n')
