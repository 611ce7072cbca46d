"""Long runs end as they should: `make soak`."""

import math

import pytest

pytestmark = pytest.mark.soak
ITERATIONS = 500


def test_mixed_precision_stays_finite(run, tmp_path):
    options = (f'train_cfg.max_iters={ITERATIONS}', f'train_cfg.val_interval={ITERATIONS}',
               f'default_hooks.checkpoint.interval={ITERATIONS}', 'default_hooks.logger.interval=1',
               'default_hooks.logger.type=LoggerHook',
               'log_processor.window_size=1')  # fmt: skip
    # A NaN or an infinity, in the loss or a gradient, would end the tool with an error.
    ended = run('train.py', 'seg.py', '--amp', '--work-dir', 'work', '--cfg-options', *options, cwd=tmp_path)
    assert ended.status == 0, ended.errors
    assert 'mixed precision is bfloat16 on the CPU' in ended.output
    (log,) = (tmp_path / 'work').glob('2*/vis_data/scalars.json')
    losses = [line['loss'] for line in ended.scalars(log) if 'loss' in line]
    assert len(losses) == ITERATIONS
    assert all(map(math.isfinite, losses))
    first, last = (sum(part) / 20 for part in (losses[:20], losses[-20:]))
    print(f'mean loss of the first and the last 20 of {ITERATIONS} iterations: {first:.4f} and {last:.4f}')
    assert last < first / 2
