"""Children that a tool forks end when they are told to."""

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
