"""Pictures from every process: MMEngine's visualizer does nothing but on the first one."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from mmatconv.openmmlab.log import log_change


@contextmanager
def every_process_draws() -> Iterator[None]:
    """Inside, MMEngine's ``master_only`` methods run in every process; each test process has images of its own."""
    from mmengine.dist import utils

    _log_once()
    is_main_process = utils.is_main_process
    utils.is_main_process = lambda *_: True
    try:
        yield
    finally:
        utils.is_main_process = is_main_process


@cache
def _log_once() -> None:
    log_change('mmengine.dist.utils.is_main_process', 'while --show-dir draws: every process draws its own images')
