#!/usr/bin/env python3
"""Soak: many logins and many sessions, and what they leave behind in memory and descriptors.

    soak.py [--logins 50000] [--sessions 10000] [--clients 16]      (PARLEYD: the daemon, built for release)

A login is a connection of its own: keys, password, AuthCompleted, end. Every second one is refused first, every eighth is cut
off without a word. Sessions run a program over a Channel stream, 50 to a connection. Figures are taken after a warm-up, so that
what is made once and kept (heap, links, threads) does not count.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1] / "e2e")]

from faultkit.books import Books  # noqa: E402
from harness import wire  # noqa: E402
from harness.answers import password_house  # noqa: E402
from harness.daemon import Daemon, program  # noqa: E402
from harness.keys import make_key  # noqa: E402
from harness.policy import Policy  # noqa: E402
from harness.rawclient import RawClient  # noqa: E402
from harness.stream import ChannelStream  # noqa: E402

PER_CONNECTION = 50
WARM_LOGINS, WARM_SESSIONS = 400, 400


@dataclass
class Figures:
    """Of one part: how much grew over how many."""

    what: str
    count: int
    rss_before_kib: int
    growth_kib: int
    fds_before: int
    fds_after: int

    def __str__(self) -> str:
        each = self.growth_kib * 1024 / max(1, self.count)
        return (
            f"{self.count} {self.what}: resident {self.rss_before_kib} KiB before, {self.growth_kib:+d} KiB after"
            f" ({each:.1f} bytes each); descriptors {self.fds_before} before, {self.fds_after} after"
        )


async def echo_once(channel: ChannelStream) -> None:
    """One round of data, then an exit status."""
    await channel.write(await channel.read_data())
    await channel.exit(0)


class Forgetful(Policy):
    """Keeps no record of what was asked: it would grow more than the daemon ever could."""

    def _note(self, name: str, request: Any, context: Any) -> Any:
        call = super()._note(name, request, context)
        with self.board:
            self.calls.clear()
            self.streams.clear()
        return call


def log_in(port: int, number: int) -> None:
    client = RawClient(port)
    client.service()
    if number % 2:
        assert client.try_password("alice", "looking-glass").type == wire.USERAUTH_FAILURE
    assert client.try_password("alice", "wonderland").type == wire.USERAUTH_SUCCESS
    client.close() if number % 8 == 0 else client.disconnect()


def run_sessions(port: int, count: int) -> None:
    client = RawClient(port)
    client.service()
    assert client.try_password("alice", "wonderland").type == wire.USERAUTH_SUCCESS
    for _ in range(count):
        number = client.execute("echo")
        client.data(number, b"round")
        client.until(wire.CHANNEL_CLOSE)
        client.close_channel(number)
    client.disconnect()


def in_parallel(clients: int, count: int, work: Callable[[int], None]) -> None:
    """work(0) to work(count - 1) on so many threads; the first failure ends it."""
    numbers = iter(range(count))
    lock = threading.Lock()
    failures: list[BaseException] = []

    def run() -> None:
        while not failures:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            try:
                work(number)
            except BaseException as failure:  # noqa: BLE001
                failures.append(failure)

    threads = [threading.Thread(target=run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


class Soak:
    """A daemon that is being worn."""

    def __init__(self, daemon: Daemon, clients: int) -> None:
        self.daemon = daemon
        self.clients = clients

    def logins(self, count: int) -> None:
        in_parallel(self.clients, count, lambda number: log_in(self.daemon.port, number))

    def sessions(self, count: int) -> None:
        per = max(1, min(PER_CONNECTION, count))
        in_parallel(self.clients, count // per, lambda _: run_sessions(self.daemon.port, per))

    def warm_up(self, logins: int = WARM_LOGINS, sessions: int = WARM_SESSIONS) -> None:
        self.logins(logins)
        self.sessions(sessions)

    def measure(self, what: str, count: int, wear: Callable[[int], None]) -> Figures:
        before = Books(self.daemon)
        wear(count)
        after = Books(self.daemon)
        return Figures(what, count, before.rss_kib, after.rss_kib - before.rss_kib, before.fds, after.fds)


def soak(logins: int, sessions: int, clients: int, report: Callable[[str], object] = print) -> list[Figures]:
    """All of it, from making a key to the daemon's end."""
    folder = Path(tempfile.mkdtemp(prefix="parley-soak-"))
    key = make_key(folder / "host")
    try:
        with Forgetful(f"unix:{folder}/policy.sock") as policy:
            password_house(policy)
            policy.on.Channel = echo_once
            daemon = Daemon(["--listen", "127.0.0.1:0", "--host-key", str(key.path), "--policy", policy.target], cwd=folder)
            try:
                wearing = Soak(daemon.wait_ready(), clients)
                wearing.warm_up()
                figures = []
                # In rounds: a leak grows with each of them, a heap that settles does not.
                for part, whole, wear in (("logins", logins, wearing.logins), ("sessions", sessions, wearing.sessions)):
                    for _ in range(5):
                        figures.append(wearing.measure(part, whole // 5, wear))
                        report(str(figures[-1]))
                daemon.stop()
            finally:
                daemon.kill()
        return figures
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logins", type=int, default=50_000)
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=16, help="at the same time: a refused login takes its time")
    args = parser.parse_args()
    print(f"{program()}; this program may use {resource.getrlimit(resource.RLIMIT_NOFILE)[0]} descriptors", flush=True)
    soak(args.logins, args.sessions, args.clients, lambda line: print(line, flush=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
