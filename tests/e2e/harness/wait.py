"""Waiting for facts instead of sleeping."""

from __future__ import annotations

import threading
import time
from typing import Callable, TypeVar

T = TypeVar("T")

# Two noisy cores and sanitizers: a wait that ends well ends early, so this is only the patience before giving up.
PATIENCE_S = 60.0


class Board:
    """A condition variable on which several threads write facts down (`with board`), and others read them (`with board.look`) and
    wait for one to be true: readers wake nobody."""

    def __init__(self) -> None:
        self._condition = self.look = threading.Condition()
        self._written = 0

    def __enter__(self) -> "Board":
        self._condition.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self._written += 1
        self._condition.notify_all()
        self._condition.release()

    def wait(self, fact: Callable[[], T], what: str, timeout: float = PATIENCE_S) -> T:
        """The first true value of fact(), or AssertionError naming what did not happen."""
        with self._condition:
            end = time.monotonic() + timeout
            while True:
                written = self._written
                if value := fact():
                    return value
                left = end - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"not within {timeout:.0f} s: {what}")
                # Looking may itself write down what it finds: then nobody else will announce it.
                self._condition.wait(left if written == self._written else min(left, 0.01))


def poll(fact: Callable[[], T], what: str, timeout: float = PATIENCE_S, every: float = 0.02) -> T:
    """For facts that nobody announces (a file, a process): asked again until true."""
    end = time.monotonic() + timeout
    while not (value := fact()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout:.0f} s: {what}")
        time.sleep(every)
    return value
