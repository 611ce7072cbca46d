"""The bar of the tools that go through images one by one."""

import sys
from collections.abc import Iterable
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Item = TypeVar('Item')


def with_bar(items: Iterable[Item], title: str, total: int | None = None) -> Iterable[Item]:
    """The items one by one, with a bar on standard error while they last; none where that is no terminal.

    Args:
        items: Any.
        title: Stands before the bar.
        total: How many they are. None or 0: their length if they have one, else unknown.
    """
    hidden = not sys.stderr.isatty()
    return track(items, title, total=total or None, console=Console(stderr=True), disable=hidden, transient=True)
