"""Where every change to another package names itself."""

import logging

logger = logging.getLogger('mmatconv')


def log_change(change: str, reason: str) -> None:
    """Write at debug level what is changed and why.

    ``logging.getLogger('mmatconv').setLevel('DEBUG')`` with any handler shows the changes of a program.
    """
    logger.debug('changed: %s (%s)', change, reason)
