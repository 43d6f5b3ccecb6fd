"""Connections that a client asks us to make: -L, -W, -D, -J and Unix sockets, streamed to the policy or made by the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import socketserver
import struct
import subprocess
import threading
from pathlib import Path
from typing import Any, Callable, Iterator

import asyncssh
import paramiko
import pytest

from harness.answers import cat, open_house
from harness.clients import OpenSsh, terminate
from harness.contract import pb
from harness.daemon import Daemon, rss_kib, is_sanitized
from harness.policy import Policy
from harness.rawclient import RawClient
from harness.stream import ChannelStream
from harness.wait import PATIENCE_S, poll
from harness.wire import string, u32

Raw = Callable[..., RawClient]

FORWARD = pb.OpenAnswer(forward=pb.ForwardEndpoint())


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(65536):
            self.request.sendall(data)
        self.request.shutdown(socket.SHUT_WR)


class Hello(socketserver.BaseRequestHandler):
    """Says something at once and closes."""

    def handle(self) -> None:
        self.request.sendall(b"hello from the other side\n")


class TcpServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 512


class TcpServer6(TcpServer):
    address_family = socket.AF_INET6


class UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 512


@contextlib.contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[Any]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def echo() -> Iterator[int]:
    with serving(TcpServer(("127.0.0.1", 0), Echo)) as address:
        yield address[1]


@pytest.fixture
def hello() -> Iterator[int]:
    with serving(TcpServer(("127.0.0.1", 0), Hello)) as address:
        yield address[1]


@pytest.fixture
def forwarding(policy: Policy) -> Policy:
    open_house(policy, cat)
    policy.on.ConnectionRequested = policy.on.UnixConnectionRequested = FORWARD
    return policy


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def open_tcp(client: RawClient, host: bytes | str, port: int, channel: int = 0) -> bytes:
    return client.open_message("direct-tcpip", channel, string(host) + u32(port) + string("198.51.100.4") + u32(4711))


def refusal(client: RawClient, message: bytes) -> tuple[int, str]:
    client.send(message)
    failure = client.until(92)
    failure.u32()
    return failure.u32(), failure.string().decode()


# ---- with the clients that people have


def test_openssh_w(forwarding: Policy, ssh: OpenSsh, hello: int) -> None:
    result = ssh.run(None, options=("-W", f"127.0.0.1:{hello}"))
    assert result.out == b"hello from the other side\n", result
    asked = forwarding.requests("ConnectionRequested")[0]
    assert (asked.dest_host, asked.dest_port) == ("127.0.0.1", hello)
    assert asked.context.user == "alice" and asked.context.authenticated


@contextlib.contextmanager
def background(ssh: OpenSsh, *options: str) -> Iterator[subprocess.Popen]:
    process = ssh.popen(None, options=("-N", "-o", "ExitOnForwardFailure=yes", *options))
    try:
        yield process
    finally:
        terminate(process)
        process.communicate(timeout=PATIENCE_S)


def dial(port: int) -> socket.socket:
    def attempt() -> socket.socket | None:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        except OSError:
            return None

    return poll(attempt, f"a listener on {port}")


def exchange(s: socket.socket, data: bytes) -> bytes:
    """Sends it all, half-closes, reads to the end."""
    threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR))).start()
    got = bytearray()
    while piece := s.recv(65536):
        got += piece
    return bytes(got)


def test_openssh_l_both_ways_with_half_close(forwarding: Policy, ssh: OpenSsh, echo: int) -> None:
    data = os.urandom(5_000_000)
    port = free_port()
    with background(ssh, "-L", f"127.0.0.1:{port}:localhost:{echo}"):
        with dial(port) as s:
            assert exchange(s, data) == data
    assert forwarding.requests("ConnectionRequested")[0].dest_host == "localhost"


def test_openssh_l_to_a_unix_socket(forwarding: Policy, ssh: OpenSsh, work: Path) -> None:
    path, port = str(work / "echo.sock"), free_port()
    with serving(UnixServer(path, Echo)), background(ssh, "-L", f"127.0.0.1:{port}:{path}"):
        with dial(port) as s:
            assert exchange(s, b"through a path") == b"through a path"
    assert forwarding.requests("UnixConnectionRequested")[0].dest_path == path.encode()


def test_openssh_d(forwarding: Policy, ssh: OpenSsh, echo: int) -> None:
    port = free_port()
    with background(ssh, "-D", f"127.0.0.1:{port}"):
        with dial(port) as s:
            s.sendall(b"\5\1\0")
            assert s.recv(2) == b"\5\0"
            s.sendall(b"\5\1\0\1" + socket.inet_aton("127.0.0.1") + struct.pack(">H", echo))
            assert s.recv(10)[:2] == b"\5\0"
            assert exchange(s, b"socks") == b"socks"


def test_openssh_j(forwarding: Policy, daemon: Daemon, start_daemon: Any, connect_ssh: Any) -> None:
    """A jump through us to another parleyd."""
    inner = start_daemon(policy=forwarding.target)
    ssh = connect_ssh(inner)
    known = next(o for o in ssh.argv("x") if o.startswith("UserKnownHostsFile="))
    jump = f"ssh -F none -p {daemon.port} -o StrictHostKeyChecking=no -o {known}-jump -o BatchMode=yes -W %h:%p alice@127.0.0.1"
    assert ssh.run("x", stdin=b"far", options=("-o", f"ProxyCommand={jump}")).out == b"far"


def test_asyncssh(forwarding: Policy, daemon: Daemon, echo: int) -> None:
    async def work() -> bytes:
        async with asyncssh.connect("127.0.0.1", daemon.port, username="alice", known_hosts=None, client_keys=None, config=None) as c:
            reader, writer = await c.open_connection("127.0.0.1", echo, encoding=None)
            writer.write(b"async")
            writer.write_eof()
            data = await reader.read()
            with pytest.raises(asyncssh.ChannelOpenError) as refused:
                await c.open_connection("127.0.0.1", free_port())
            assert refused.value.code == 2 and "refused" in refused.value.reason
            return data

    assert asyncio.run(asyncio.wait_for(work(), PATIENCE_S)) == b"async"


def test_paramiko(forwarding: Policy, daemon: Daemon, echo: int) -> None:
    transport = paramiko.Transport(("127.0.0.1", daemon.port))
    try:
        transport.start_client(timeout=PATIENCE_S)
        transport.auth_none("alice")
        channel = transport.open_channel("direct-tcpip", ("127.0.0.1", echo), ("127.0.0.1", 1))
        channel.sendall(b"para")
        channel.shutdown_write()
        assert channel.makefile().read() == b"para"
    finally:
        transport.close()


# ---- what the answers do


def test_rewritten_to_another_place(policy: Policy, raw: Raw, hello: int, work: Path) -> None:
    open_house(policy)
    client = raw().login()
    policy.on.ConnectionRequested = pb.OpenAnswer(forward=pb.ForwardEndpoint(host="127.0.0.1", port=hello))
    client.send(open_tcp(client, "no.such.host.example", 1))
    client.expect(91)
    assert b"hello" in client.until(94).message
    path = str(work / "s")
    with serving(UnixServer(path, Hello)):
        policy.on.ConnectionRequested = pb.OpenAnswer(forward=pb.ForwardEndpoint(path=path.encode()))
        client.send(open_tcp(client, "whatever", 1, channel=1))
        client.until(91)
        assert b"hello" in client.until(94).message


def test_stream_to_the_policy(policy: Policy, ssh: OpenSsh) -> None:
    async def program(channel: ChannelStream) -> None:
        await channel.write(b"you want " + channel.opened.direct_tcpip.dest_host.encode() + b"\n")
        await cat(channel)

    open_house(policy, program)
    policy.on.ConnectionRequested = pb.OpenAnswer(stream=pb.StreamEndpoint())
    result = ssh.run(None, stdin=b"data", options=("-W", "nowhere.example:7"))
    assert result.out == b"you want nowhere.example\ndata", result


def test_refused_in_the_policys_words(policy: Policy, raw: Raw) -> None:
    open_house(policy)
    policy.on.ConnectionRequested = pb.OpenAnswer(refuse=pb.Refuse(code=4711, reason="not you"))
    client = raw().login()
    assert refusal(client, open_tcp(client, "h", 1)) == (4711, "not you")
    policy.on.ConnectionRequested = None
    assert refusal(client, open_tcp(client, "h", 1)) == (1, "Port forwarding is not permitted")


def test_channel_options(policy: Policy, raw: Raw, hello: int) -> None:
    open_house(policy)
    options = pb.ChannelOptions(window_bytes=5000, max_packet_bytes=2000)
    policy.on.ConnectionRequested = pb.OpenAnswer(forward=pb.ForwardEndpoint(), options=options)
    client = raw().login()
    client.send(open_tcp(client, "127.0.0.1", hello))
    confirmation = client.expect(91)
    assert [confirmation.u32() for _ in range(4)][2:] == [5000, 2000]


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "fd00:ec2::254"], ids=["v4", "mapped", "link-local", "ec2"]
)
def test_metadata_addresses_are_never_connected_to(forwarding: Policy, raw: Raw, host: str) -> None:
    client = raw().login()
    assert refusal(client, open_tcp(client, host, 80)) == (2, "Connections to this address are not allowed here")


def test_denied_addresses_are_configured(policy: Policy, start_daemon: Any, hello: int) -> None:
    open_house(policy)
    policy.on.ConnectionRequested = FORWARD
    client = RawClient(start_daemon("--forward-deny", "127.0.0.0/8", policy=policy.target).port).login()
    for host in ("127.0.0.1", "localhost", "::ffff:127.0.0.1"):
        code, reason = refusal(client, open_tcp(client, host, hello))
        assert code == 2 and ("not allowed" in reason or "refused" in reason), reason


@pytest.mark.parametrize("host", ["127.1", "0x7f000001", "2130706433", "0177.0.0.1", "127.0.1"])
def test_odd_addresses_are_not_what_was_decided(forwarding: Policy, raw: Raw, hello: int, host: str) -> None:
    """The policy is asked about the text; the resolver would read it as 127.0.0.1."""
    client = raw().login()
    assert refusal(client, open_tcp(client, host, hello)) == (2, "The address is not in its common form")
    assert forwarding.requests("ConnectionRequested")[0].dest_host == host


def test_a_mapped_address_is_used_as_decided(forwarding: Policy, raw: Raw, hello: int) -> None:
    client = raw().login()
    client.send(open_tcp(client, "::ffff:127.0.0.1", hello))
    client.expect(91)
    assert b"hello" in client.until(94).message


def test_a_source_address(policy: Policy, raw: Raw) -> None:
    peers: list[str] = []

    class Peer(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            peers.append(self.client_address[0])
            self.request.sendall(b"x")

    open_house(policy)
    policy.on.ConnectionRequested = pb.OpenAnswer(forward=pb.ForwardEndpoint(source_address="127.0.0.77"))
    client = raw().login()
    with serving(TcpServer(("127.0.0.1", 0), Peer)) as (_, port):
        client.send(open_tcp(client, "127.0.0.1", port))
        client.expect(91)
        client.until(94)
        assert peers == ["127.0.0.77"]
    policy.on.ConnectionRequested = pb.OpenAnswer(forward=pb.ForwardEndpoint(source_address="not an address"))
    assert refusal(client, open_tcp(client, "127.0.0.1", 9))[0] == 2


def test_connect_deadline(policy: Policy, raw: Raw) -> None:
    """A listener whose backlog is full answers nothing."""
    open_house(policy)
    policy.on.ConnectionRequested = pb.OpenAnswer(forward=pb.ForwardEndpoint(connect_timeout_s=1))
    client = raw().login()
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
            fillers.append(filler)
        assert refusal(client, open_tcp(client, "127.0.0.1", deaf.getsockname()[1])) == (2, "Connection timed out")
        for filler in fillers:
            filler.close()


def test_an_unresolvable_name(forwarding: Policy, raw: Raw) -> None:
    client = raw().login()
    code, reason = refusal(client, open_tcp(client, "no-such-host.invalid", 80))
    assert code == 2 and reason
    client.open()


# ---- restrictions


@pytest.mark.parametrize(
    "restrictions",
    [
        pb.Restrictions(no_port_forwarding=True),
        pb.Restrictions(permit_open=pb.Patterns()),
        pb.Restrictions(permit_open=pb.Patterns(patterns=["127.0.0.1:1"])),
    ],
    ids=["none", "empty", "other"],
)
def test_restrictions_are_checked_before_asking(policy: Policy, raw: Raw, hello: int, restrictions: Any) -> None:
    open_house(policy)
    policy.on.AuthCompleted = pb.AuthCompletedAnswer(allow=pb.Allow(restrictions=restrictions))
    policy.on.ConnectionRequested = policy.on.UnixConnectionRequested = FORWARD
    client = raw().login()
    assert refusal(client, open_tcp(client, "127.0.0.1", hello))[0] == 1
    path = client.open_message("direct-streamlocal@openssh.com", 0, string("/run/x") + string("") + u32(0))
    assert refusal(client, path)[0] == 1
    assert not policy.requests("ConnectionRequested") and not policy.requests("UnixConnectionRequested")


def test_a_permitted_place_is_reached(policy: Policy, raw: Raw, hello: int) -> None:
    open_house(policy)
    permitted = pb.Restrictions(permit_open=pb.Patterns(patterns=["elsewhere:1", f"127.0.0.1:{hello}"]))
    policy.on.AuthCompleted = pb.AuthCompletedAnswer(allow=pb.Allow(restrictions=permitted))
    policy.on.ConnectionRequested = FORWARD
    client = raw().login()
    client.send(open_tcp(client, "127.0.0.1", hello))
    client.expect(91)


# ---- many, and bad ones


BAD = {
    "port 0": string("host") + u32(0),
    "port 65536": string("host") + u32(65536),
    "NUL": string(b"host\0.evil") + u32(80),
    "newline": string("host\nname") + u32(80),
    "empty": string("") + u32(80),
    "not utf-8": string(b"\xff\xfe") + u32(80),
    "long": string("h" * 256) + u32(80),
}


@pytest.mark.parametrize("fields", BAD.values(), ids=BAD.keys())
def test_no_place_is_never_asked_about(forwarding: Policy, raw: Raw, fields: bytes) -> None:
    client = raw().login()
    message = client.open_message("direct-tcpip", 0, fields + string("") + u32(0))
    assert refusal(client, message)[0] == 1
    assert not forwarding.requests("ConnectionRequested")
    client.open()


@pytest.mark.parametrize("path", [b"", b"/a\0b", b"/" + b"p" * 107], ids=["empty", "NUL", "108 bytes"])
def test_no_path_is_never_asked_about(forwarding: Policy, raw: Raw, path: bytes) -> None:
    client = raw().login()
    message = client.open_message("direct-streamlocal@openssh.com", 0, string(path) + string("") + u32(0))
    assert refusal(client, message)[0] == 1
    assert not forwarding.requests("UnixConnectionRequested")


def test_a_reset_closes_the_channel(forwarding: Policy, raw: Raw) -> None:
    client = raw().login()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        client.send(open_tcp(client, "127.0.0.1", listener.getsockname()[1]))
        client.expect(91)
        peer, _ = listener.accept()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
    client.until(97)
    client.close_channel(0)
    client.open(channel=1)


def test_1000_connections_through_one(policy: Policy, start_daemon: Any, echo: int) -> None:
    open_house(policy)
    policy.on.ConnectionRequested = FORWARD
    daemon = start_daemon("--max-channels", "2000", policy=policy.target)

    async def one(c: asyncssh.SSHClientConnection, number: int) -> None:
        reader, writer = await c.open_connection("127.0.0.1", echo, encoding=None)
        text = b"connection %d" % number
        writer.write(text)
        writer.write_eof()
        assert await reader.read() == text

    async def work() -> None:
        async with asyncssh.connect("127.0.0.1", daemon.port, username="alice", known_hosts=None, client_keys=None, config=None) as c:
            await asyncio.gather(*(one(c, i) for i in range(1000)))

    asyncio.run(asyncio.wait_for(work(), 100))
    daemon.wait_event("channel_closed", count=1000)


def test_a_slow_reader_costs_bounded_memory(forwarding: Policy, daemon: Daemon, raw: Raw) -> None:
    """The place we connect to floods; the client takes nothing."""
    client = raw().login()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        before = rss_kib(daemon.pid)
        client.send(open_tcp(client, "127.0.0.1", listener.getsockname()[1]))
        client.expect(91)
        peer, _ = listener.accept()
        peer.settimeout(1)
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 1 << 30:
                sent += peer.send(bytes(1 << 20))
        if not is_sanitized(daemon.pid):
            assert rss_kib(daemon.pid) - before <= 4096
        client.send(bytes([80]) + string("still-alive@example.com") + b"\1")
        client.until(82)
        peer.close()


def test_100000_refused_opens_leave_nothing(policy: Policy, daemon: Daemon, raw: Raw) -> None:
    open_house(policy)
    policy.on.AuthCompleted = pb.AuthCompletedAnswer(allow=pb.Allow(restrictions=pb.Restrictions(no_port_forwarding=True)))
    client = raw().login()
    message = open_tcp(client, "127.0.0.1", 80)

    def burst(count: int) -> None:
        for _ in range(0, count, 500):
            for _ in range(500):
                client.send(message)
            for _ in range(500):
                client.expect(92)

    burst(5000)
    before = rss_kib(daemon.pid)
    burst(20000 if is_sanitized(daemon.pid) else 95000)
    if not is_sanitized(daemon.pid):
        assert rss_kib(daemon.pid) - before <= 2048
    client.open()
