"""The daemon's own life: signals, its end with people logged in, several workers, what it leaves behind."""

from __future__ import annotations

import signal
import socket
import time
from typing import Callable

import pytest

from harness.answers import open_house, say, wait_close
from harness.clients import OpenSsh
from harness.daemon import Daemon, is_sanitized, rss_kib
from harness.policy import Policy, hang
from harness.rawclient import RawClient
from harness.rawssh import Closed
from harness.wait import PATIENCE_S, poll

Raw = Callable[..., RawClient]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_end_with_nobody_there(policy: Policy, start_daemon: Callable[..., Daemon], number: int) -> None:
    daemon = start_daemon()
    daemon.process.send_signal(number)
    assert daemon.wait_exit() == 0


def test_end_tells_the_clients(policy: Policy, daemon: Daemon, raw: Raw) -> None:
    """Logged in, in a session, in the middle of a login, before the keys: everybody hears it, and it is reported."""
    open_house(policy, wait_close)
    session, idle, early = raw(), raw(), raw(keys=False)
    session.login().execute()
    idle.login()
    record = policy.wait_stream()
    pending = raw()
    policy.on.BeginAuth = hang
    pending.service()
    pending.send(pending.auth_message("alice", "none"))
    policy.wait_for("BeginAuth", 3)
    daemon.process.send_signal(signal.SIGTERM)
    for client in (session, idle, pending):
        end = client.expect_disconnect()
        assert end.code == 11 and "shutting down" in end.reason
    with pytest.raises(Closed):
        while True:
            early.read_line()
    assert daemon.wait_exit() == 0
    record.wait(lambda stream: stream.ended, "the stream's end")
    policy.wait_for("ConnectionLost", 4)


def test_end_does_not_wait_for_a_client_that_does_not_read(policy: Policy, daemon: Daemon, raw: Raw) -> None:
    async def flood(channel) -> None:
        for _ in range(1000):
            await channel.write(b"x" * 65536)

    open_house(policy, flood)
    client = raw().login()
    number = client.open(window=1 << 30)
    client.send(client.request_message(number, "exec", b"\0\0\0\1x"))
    policy.wait_stream()
    began = time.monotonic()
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.wait_exit() == 0
    assert time.monotonic() - began < 30


def test_end_does_not_wait_for_a_hung_policy(policy: Policy, daemon: Daemon, raw: Raw) -> None:
    open_house(policy, wait_close)
    policy.on.ConnectionLost = hang
    raw().login().execute()
    policy.wait_stream()
    began = time.monotonic()
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.wait_exit() == 0
    assert time.monotonic() - began < 30


def test_listening_ends_at_once(policy: Policy, daemon: Daemon, raw: Raw) -> None:
    open_house(policy, wait_close)
    raw().login()
    daemon.process.send_signal(signal.SIGTERM)
    daemon.wait_exit()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", daemon.port), 5)


def test_hup_does_not_end_it(policy: Policy, daemon: Daemon, raw: Raw) -> None:
    open_house(policy, wait_close)
    client = raw().login()
    for _ in range(20):
        daemon.process.send_signal(signal.SIGHUP)
    client.execute()
    raw().login()


@pytest.mark.parametrize("workers", [1, 8])
def test_workers(policy: Policy, start_daemon: Callable[..., Daemon], workers: int) -> None:
    """Any number serves: each connection stays with one of them."""
    open_house(policy, say(b"x"))
    daemon = start_daemon("--workers", str(workers))
    assert daemon.wait_event("ready")["workers"] == str(workers)
    clients = [RawClient(daemon.port).login() for _ in range(16)]
    for client in clients:
        client.execute()
        client.until(97)
        client.disconnect()
    policy.wait_for("ConnectionLost", 16)


def test_logins_do_not_leak_memory(policy: Policy, daemon: Daemon, raw: Raw) -> None:
    """A few hundred whole logins and sessions; what the first ones took is reused by the later ones."""

    def round_of(count: int) -> None:
        for _ in range(count):
            client = raw().login()
            client.execute()
            client.until(97)
            client.disconnect()

    if is_sanitized(daemon.pid):
        pytest.skip("a sanitizer keeps what is freed for a while, and looks for leaks itself")
    open_house(policy, say(b"x" * 1000))
    round_of(100)
    before = rss_kib(daemon.pid)
    round_of(200)
    policy.wait_for("ConnectionLost", 300)
    assert rss_kib(daemon.pid) - before < 4096  # noise of the allocators; sanitizers look closer at the end


def test_idle_connections_are_cheap_and_held(policy: Policy, daemon: Daemon, raw: Raw) -> None:
    open_house(policy, say(b"x"))
    before = rss_kib(daemon.pid)
    clients = [raw().login() for _ in range(100)]
    assert rss_kib(daemon.pid) - before < 100 * 256
    for client in clients:
        client.execute()
        client.until(97)


def test_silent_sockets_keep_nobody_out(policy: Policy, daemon: Daemon, ssh: OpenSsh) -> None:
    open_house(policy, say(b"in\n"))
    silent = [socket.create_connection(("127.0.0.1", daemon.port), PATIENCE_S) for _ in range(8)]
    assert ssh.run("x").out == b"in\n"
    for one in silent:
        one.close()
    policy.wait_for("ConnectionLost", 9)
    poll(lambda: len(daemon.events("closed")) == 9, "all to be closed")
