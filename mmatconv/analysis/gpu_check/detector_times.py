"""Detectors with ours, the released code and attention as backbone: what benchmark.py says of them."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from mmatconv.analysis.gpu_check.record import Disagreement, Record
from mmatconv.analysis.gpu_check.target import Target

TOOL = Path(__file__).resolve().parents[3] / 'tools' / 'analysis_tools' / 'benchmark.py'


def run(record: Record, target: Target) -> None:
    for mode in ('forward', 'step'):
        name = f'detectors, {mode}, bfloat16, 2 x 3 x 800 x 1344'
        if not target.on_gpu:
            record.needs_gpu(name)
        elif not TOOL.exists():
            record.left_out(name, 'tools are in a checkout only')
        else:
            record.check(name, lambda m=mode, n=name: times(record, m, n))


def times(record: Record, mode: str, title: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / 'results.json'
        options = ['--level', 'detector', '--device', 'cuda', '--mode', mode, '--dtype', 'bfloat16', '--batch', '2']
        options += ['--size', '800', '1344', '--repeats', '5', '--json', str(file)]
        done = subprocess.run([sys.executable, str(TOOL), *options], capture_output=True, text=True)
        if done.returncode:
            raise Disagreement((done.stderr.strip().splitlines() or ['no message'])[-1])
        cases = json.loads(file.read_text(encoding='utf-8'))['cases']
    rows = [
        (case['model'], entry['name'], f'{1e3 * entry["median"]:.1f}', f'{entry["peak_bytes"] / 1e9:.2f}')
        for case in cases
        for entry in case['results']
    ]
    record.table(title, ('model', 'backbone', 'ms', 'GB'), rows)
