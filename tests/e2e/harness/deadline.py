"""Login deadlines that are to pass, but not before a client has got as far as it must."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Callable

from .daemon import Daemon
from .rawclient import RawClient
from .rawssh import Closed, Disconnected


@dataclass
class Reached:
    daemon: Daemon
    client: RawClient
    seconds: int  # the daemon's login deadline
    began: float  # time.monotonic()


def within_login_deadline(start_daemon: Callable[..., Daemon], reach: Callable[[RawClient], object]) -> Reached:
    """The shortest deadline in which reach() gets there while this machine is as busy as it is."""
    for seconds in (1, 4, 16):
        daemon = start_daemon("--login-timeout", f"{seconds}s")
        began = time.monotonic()
        try:
            client = RawClient(daemon.port)
            reach(client)
            return Reached(daemon, client, seconds, began)
        except (Closed, Disconnected):
            continue
    raise AssertionError("no deadline is long enough to get there")
