"""Floods before login: many key exchanges at once, and many descriptors. Who is in stays served, and honest clients get in."""

from __future__ import annotations

import os
import resource
import socket
import threading
from typing import Callable

import pytest

from faultkit.client import Bystander
from harness import wire
from harness.answers import cat, open_house
from harness.daemon import Daemon
from harness.policy import Policy
from harness.rawclient import RawClient
from harness.rawssh import Closed
from harness.wait import PATIENCE_S, poll
from harness.wire import string, u32

Bystand = Callable[[Daemon], Bystander]

FLOODERS = 10
KEYSTROKES = 60


class KexFlood:
    """Each of these sockets wants a key exchange, does nothing for it, and is replaced at once (CVE-2002-20001)."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.count = 0
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run) for _ in range(FLOODERS)]

    def _run(self) -> None:
        hello = self._hello()
        while not self._over.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self.port), PATIENCE_S) as flooder:
                    flooder.sendall(hello)
                    flooder.recv(1)
            except OSError:
                continue
            with self._lock:
                self.count += 1

    @staticmethod
    def _hello() -> bytes:
        lists = ["curve25519-sha256", "ssh-ed25519", *["aes128-gcm@openssh.com"] * 2, *["hmac-sha2-256"] * 2, *["none"] * 2, "", ""]
        kexinit = bytes([wire.KEXINIT]) + os.urandom(16) + b"".join(map(string, lists)) + b"\0" + u32(0)
        init = bytes([wire.KEX_ECDH_INIT]) + string(os.urandom(32))
        return b"SSH-2.0-flood\r\n" + plain_packet(kexinit) + plain_packet(init)

    def __enter__(self) -> "KexFlood":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)


def plain_packet(payload: bytes) -> bytes:
    padding = 8 - (5 + len(payload)) % 8
    padding += 8 if padding < 4 else 0
    return u32(1 + len(payload) + padding) + bytes([padding]) + payload + bytes(padding)


def test_a_flood_of_key_exchanges_starves_nobody(policy: Policy, start_daemon: Callable[..., Daemon], bystand: Bystand) -> None:
    """All on one loop. The flood also takes the policy's time, which is not what this is about."""
    open_house(policy, cat)
    daemon = start_daemon("--workers", "1", "--policy-auth-deadline", "60s", "--policy-deadline", "60s")
    bystander = bystand(daemon)
    with KexFlood(daemon.port) as flood:
        poll(lambda: flood.count >= FLOODERS, "the flood runs")
        for _ in range(3):
            bystander.type(KEYSTROKES // 3)
            RawClient(daemon.port).login().close()
        poll(lambda: flood.count >= 10 * FLOODERS, "the flood has run")
    bystander.type()


@pytest.fixture
def few_files(start_daemon: Callable[..., Daemon]) -> Daemon:
    """A daemon that may open 128 descriptors."""
    daemon = start_daemon("--workers", "1")
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (128, 128))
    return daemon


def cpu_s(pid: int) -> float:
    fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_running_out_of_descriptors_is_survived(policy: Policy, few_files: Daemon, bystand: Bystand) -> None:
    """Who is in is served; nothing spins; whoever comes is told by a closed socket; and it is over when descriptors are free again."""
    open_house(policy, cat)
    bystander = bystand(few_files)
    crowd = [socket.create_connection(("127.0.0.1", few_files.port), PATIENCE_S) for _ in range(300)]
    few_files.wait_event("accept-paused")
    before = cpu_s(few_files.pid)
    bystander.type(50)
    few_files.wait_event("accept-paused", len(few_files.events("accept-paused")) + 5)  # paused for half a second at least
    assert cpu_s(few_files.pid) - before < 5
    pauses = len(few_files.events("accept-paused"))
    assert pauses < 1000
    for client in crowd:
        client.close()
    poll(lambda: logs_in(few_files.port), "descriptors are free again")
    bystander.type()


def logs_in(port: int) -> bool:
    try:
        RawClient(port).login().close()
    except (Closed, OSError):
        return False
    return True
