"""Bytes that are no SSH, or SSH cut and bent: the connection ends, is reported, and leaves nothing behind."""

from __future__ import annotations

import os
import socket
from typing import Callable

import pytest

from harness.answers import cat, open_house, say
from harness.daemon import Daemon
from harness.policy import Policy
from harness.rawclient import RawClient
from harness.rawssh import Closed, Disconnected
from harness.wait import PATIENCE_S, poll

Raw = Callable[..., RawClient]


@pytest.mark.parametrize("line", [b"GET / HTTP/1.0\r\n\r\n", b"SSH-1.5-old\r\n", b"SSH-2.0-" + b"x" * 300 + b"\r\n", b"\0" * 300, b"\n" * 5000])
def test_no_ssh_client(policy: Policy, daemon: Daemon, line: bytes) -> None:
    with socket.create_connection(("127.0.0.1", daemon.port), PATIENCE_S) as plain:
        plain.sendall(line)
        plain.settimeout(PATIENCE_S)
        try:
            while plain.recv(4096):
                pass
        except ConnectionResetError:
            pass
    policy.wait_for("ConnectionLost")


@pytest.mark.parametrize("tail", [b"\xff" * 64, b"\x7f\xff\xff\xff" + b"x" * 100, b"\0\0\0\0" * 16, os.urandom(4096)], ids=["ff", "2g", "zeros", "random"])
@pytest.mark.parametrize("when", ["plain", "encrypted"])
def test_broken_packets_end_the_connection(policy: Policy, daemon: Daemon, raw: Raw, when: str, tail: bytes) -> None:
    open_house(policy, cat)
    client = raw(keys=False) if when == "plain" else raw().login()
    try:
        client.socket.sendall((b"SSH-2.0-Bad\r\n" if when == "plain" else b"") + tail)
        client.socket.shutdown(socket.SHUT_WR)
        while client.socket.recv(65536):
            pass
    except (ConnectionResetError, BrokenPipeError):
        pass
    policy.wait_for("ConnectionLost")


@pytest.mark.parametrize("place", [0, 3, 4, 20, -1])
def test_one_wrong_bit_ends_the_connection(policy: Policy, raw: Raw, place: int) -> None:
    open_house(policy, cat)
    client = raw().login()
    packet = bytearray(client.pack(client.open_message()))
    packet[place] ^= 1
    client.socket.sendall(bytes(packet))
    client.socket.shutdown(socket.SHUT_WR)
    assert client.expect_end()
    assert "SessionRequested" not in policy.names()


def test_login_byte_by_byte(policy: Policy, daemon: Daemon, raw: Raw) -> None:
    """Any chunking is the same."""
    open_house(policy, say(b"x"))
    client = raw()
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.service()
    for message, reply in ((client.auth_message("alice", "none"), 52), (client.open_message(), 91)):
        for byte in client.pack(message):
            client.socket.send(bytes([byte]))
        assert client.expect(reply)


def test_cut_anywhere_in_a_login(policy: Policy, daemon: Daemon) -> None:
    """The client goes after each so many bytes; every connection is reported and nothing stays behind."""
    open_house(policy, say(b"x"))
    sizes = [1, 8, 20, 100, 400, 700, 900, 1000, 1040, 1080, 1120, 1200]
    for size in sizes:
        client = RawClient(daemon.port, keys=False)
        sent = 0

        def limited(data: bytes, client: RawClient = client, size: int = size) -> None:
            nonlocal sent
            piece = data[: max(0, size - sent)]
            client.socket.sendall(piece)
            sent += len(piece)
            if sent >= size:
                raise Closed("cut here")

        try:
            limited(client.client_version + b"\r\n")
            client.server_version = client.read_line()
            client.send_all = lambda *payloads: limited(b"".join(client.pack(p) for p in payloads))
            client.exchange_keys()
            client.login()
            client.execute()
        except (Closed, Disconnected):
            pass
        client.close()
    policy.wait_for("ConnectionLost", len(sizes))
    poll(lambda: len(daemon.events("closed")) == len(sizes), "all to be closed")
