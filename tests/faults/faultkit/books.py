"""Books of a daemon: what was accepted is closed, descriptors and memory are back where they were."""

from __future__ import annotations

import os
import time
from functools import lru_cache
from pathlib import Path

from harness.daemon import Daemon, program, rss_kib
from harness.wait import poll

MIB_KIB = 1024
# Heaps do not shrink to the byte: what a batch may leave behind in free lists. A leak of 4 KiB a connection is far above it.
SLACK_KIB = 4 * MIB_KIB


@lru_cache(maxsize=1)
def sanitized() -> bool:
    """Sanitizers keep freed memory on purpose, so its size says nothing."""
    image = Path(program()).read_bytes()
    return b"__asan_init" in image or b"__tsan_init" in image


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def settled(pid: int) -> int:
    """How many descriptors there are, or 0 if that changes."""
    before = descriptors(pid)
    return before if not time.sleep(0.05) and descriptors(pid) == before else 0


class Books:
    """Opened over a daemon that has served its first clients and has `living` now; balance() at the end of each batch."""

    def __init__(self, daemon: Daemon, living: int = 0) -> None:
        self.daemon = daemon
        self.living = living
        self.balance_connections(living)
        # A descriptor is closed just after its connection's last line is written.
        self.fds = poll(lambda: settled(daemon.pid), "descriptors that stay as they are")
        self.rss_kib = rss_kib(daemon.pid)

    def counts(self, *events: str) -> list[int]:
        """Log lines of each event, at one moment; parsing all of them each time would take longer than the tests."""
        with self.daemon.board.look:
            lines = self.daemon.lines
            return [sum(f" event={event} " in line for line in lines) for event in events]

    def balance_connections(self, living: int) -> None:
        """Waits until all but these have been closed, each exactly once."""
        daemon = self.daemon

        def ended() -> bool:
            assert daemon.process.poll() is None, f"the daemon died:\n{daemon.log[-8000:]}"
            closed, opened = self.counts("closed", "connection")
            return closed == opened - living

        # Also from above: one that is still being opened counts as living only once its line is there.
        daemon.board.wait(ended, f"all but {living} connections closed")

    def balance(self, added: int = 0, slack_kib: int = SLACK_KIB, links: int = 0) -> None:
        """Nothing is left of what came since, but `added` connections, and `links` to the policy, with a descriptor each."""
        wanted = self.fds + added + links
        self.balance_connections(self.living + added)
        poll(lambda: descriptors(self.daemon.pid) == wanted, f"{wanted} descriptors (there are {descriptors(self.daemon.pid)})")
        self.check_growth(slack_kib, "after the batch")

    def growth_kib(self) -> int:
        return rss_kib(self.daemon.pid) - self.rss_kib

    def check_growth(self, bound_kib: int, when: str) -> None:
        growth = self.growth_kib()
        assert sanitized() or growth <= bound_kib, f"{growth} KiB more resident {when}, at most {bound_kib} are allowed"
