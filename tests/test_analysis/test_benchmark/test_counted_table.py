"""The table of what a training step gives a GPU to do, in docs/benchmark.md, is what is counted today."""

from pathlib import Path

import pytest

from mmatconv.analysis.benchmark.case import Setting
from mmatconv.analysis.benchmark.gpu_levels import SIZES
from mmatconv.analysis.benchmark.traffic import traffic

PAGE = Path(__file__).resolve().parents[3] / 'docs/benchmark.md'
WANTED = (1500, 24.0, 4.3)


def row(first):
    """Launches, of forward and backward, GB, of forward and backward, and GB saved."""
    table = PAGE.read_text(encoding='utf-8').split('--level traffic\n```\n')[1].split('\n```')[0]
    (line,) = [line for line in table.splitlines() if line.startswith(f'| {first} ') or line.startswith(f'| {first},')]
    return [cell.strip() for cell in line.split('|')[2:-1]]


@pytest.mark.newer_torch  # which operations torch calls depends on its release
def test_the_page_has_what_is_counted():
    found = {
        entry.name: (
            *(str(count) for count in _with_total([w.launches.total() for w in (entry.forward, entry.backward)])),
            *(f'{x / 1e9:.1f}' for x in _with_total([w.bytes.total() for w in (entry.forward, entry.backward)])),
            f'{entry.saved / 1e9:.2f}',
        )
        for entry in traffic('attnet-t2', Setting('backward', SIZES['traffic'], 2, 'bfloat16'))
    }
    assert list(found['released']) == row('released')
    assert list(found['ours']) == row('**ours')
    launches, _, _, gigabytes, _, _, saved = map(float, found['ours'])
    assert all(value <= most for value, most in zip((launches, gigabytes, saved), WANTED))


def _with_total(parts):
    return sum(parts), *parts
