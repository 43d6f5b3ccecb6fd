"""What a client asks us to listen on: -R for ports and Unix sockets, relayed, asked about, or managed by the policy."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import struct
import subprocess
from pathlib import Path
from typing import Any, Callable, Iterator

import asyncssh
import paramiko
import pytest

from harness.answers import cat, open_house
from harness.clients import OpenSsh, terminate
from harness.contract import pb
from harness.daemon import Daemon
from harness.policy import Policy
from harness.rawclient import RawClient
from harness.stream import ChannelStream
from harness.wait import PATIENCE_S, poll
from harness.wire import Reader, boolean, string, u32

from test_direct import Echo, Hello, TcpServer, UnixServer, background, echo, exchange, free_port, hello, serving  # noqa: F401
from test_supervise import Supervisor, supervised

Raw = Callable[..., RawClient]

LISTEN = pb.ListenAnswer(listen=pb.ListenEndpoint())


@pytest.fixture
def listening(policy: Policy) -> Policy:
    open_house(policy, cat)
    policy.on.ServerRequested = policy.on.UnixServerRequested = LISTEN
    return policy


def ask(client: RawClient, name: str, rest: bytes) -> Reader | None:
    """The success's fields, or None."""
    client.send(bytes([80]) + string(name) + boolean(True) + rest)
    reply = client.until(81, 82)
    return reply if reply.type == 81 else None


def listen(client: RawClient, host: bytes | str = "localhost", port: int = 0) -> int | None:
    reply = ask(client, "tcpip-forward", string(host) + u32(port))
    return (reply.u32() if port == 0 else port) if reply else None


def connected(port: int, family: int = socket.AF_INET) -> socket.socket:
    s = socket.socket(family)
    s.settimeout(PATIENCE_S)
    s.connect(("127.0.0.1" if family == socket.AF_INET else "::1", port))
    return s


def is_closed(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) != 0


def taken(client: RawClient, channel: int = 50) -> Reader:
    """Confirms the next channel that is opened to us; its fields after the type's."""
    message = client.until(90)
    assert message.string().startswith(b"forwarded-")
    peer = message.u32()
    message.u32(), message.u32()
    client.send(bytes([91]) + u32(peer) + u32(channel) + u32(1 << 20) + u32(32768))
    return message


# ---- with the clients that people have


def test_openssh_r_port_0(listening: Policy, ssh: OpenSsh, echo: int) -> None:
    client = ssh.popen(None, options=("-N", "-R", f"0:127.0.0.1:{echo}"))
    try:
        line = b""
        while b"Allocated port" not in line:
            line = client.stderr.readline()
        port = int(line.split(b"Allocated port ")[1].split()[0])
        data = os.urandom(3_000_000)
        with connected(port) as s:
            assert exchange(s, data) == data
    finally:
        terminate(client)
        client.communicate(timeout=PATIENCE_S)
    poll(lambda: is_closed(port), "the listener to go with its connection")


def test_openssh_r_with_a_port(listening: Policy, ssh: OpenSsh, hello: int) -> None:
    port = free_port()
    with background(ssh, "-R", f"{port}:127.0.0.1:{hello}"):
        s = poll(lambda: None if is_closed(port) else connected(port), "the listener")
        assert s.makefile("rb").read() == b"hello from the other side\n"
        s.close()
    asked = listening.requests("ServerRequested")[0]
    assert (asked.listen_host, asked.listen_port) == ("localhost", port)


def test_openssh_r_with_a_path(listening: Policy, ssh: OpenSsh, work: Path, echo: int) -> None:
    path = work / "remote.sock"
    with background(ssh, "-R", f"{path}:127.0.0.1:{echo}"):
        poll(path.exists, "the socket")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(PATIENCE_S)
            s.connect(str(path))
            assert exchange(s, b"through a path") == b"through a path"
    poll(lambda: not path.exists(), "the socket to go")


def test_openssh_is_told_of_a_refusal(policy: Policy, ssh: OpenSsh) -> None:
    open_house(policy)
    result = ssh.run("x", options=("-R", "0:127.0.0.1:22", "-o", "ExitOnForwardFailure=yes"))
    assert result.status == 255 and "forwarding failed" in result.err, result


def test_asyncssh(listening: Policy, daemon: Daemon, echo: int) -> None:
    async def work() -> bytes:
        async with asyncssh.connect("127.0.0.1", daemon.port, username="alice", known_hosts=None, client_keys=None, config=None) as c:
            listener = await c.forward_remote_port("", 0, "127.0.0.1", echo)
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.get_port())
            writer.write(b"async")
            writer.write_eof()
            data = await reader.read()
            writer.close()
            listener.close()
            await listener.wait_closed()
            return data

    assert asyncio.run(asyncio.wait_for(work(), PATIENCE_S)) == b"async"


def test_paramiko(listening: Policy, daemon: Daemon) -> None:
    transport = paramiko.Transport(("127.0.0.1", daemon.port))
    try:
        transport.start_client(timeout=PATIENCE_S)
        transport.auth_none("alice")
        port = transport.request_port_forward("localhost", 0)
        with connected(port) as s:
            channel = transport.accept(PATIENCE_S)
            channel.sendall(b"para")
            assert s.recv(10) == b"para"
        transport.cancel_port_forward("localhost", port)
    finally:
        transport.close()


# ---- what the answers do


def test_loopback_in_both_families_whatever_was_asked(listening: Policy, raw: Raw) -> None:
    client = raw().login()
    port = listen(client, "0.0.0.0")
    with connected(port):
        fields = taken(client)
        assert (fields.string(), fields.u32()) == (b"0.0.0.0", port)
        assert fields.string() == b"127.0.0.1"
    if socket.has_ipv6 and Path("/proc/net/if_inet6").exists():
        with connected(port, socket.AF_INET6):
            assert client.until(90).string() == b"forwarded-tcpip"
    with socket.socket() as s:  # and nowhere else
        assert s.connect_ex(("127.0.0.2", port)) != 0


def test_the_answer_names_the_host_and_the_port(policy: Policy, raw: Raw) -> None:
    open_house(policy)
    port = free_port()
    policy.on.ServerRequested = pb.ListenAnswer(listen=pb.ListenEndpoint(host="127.0.0.9", port=port))
    client = raw().login()
    assert listen(client, "localhost", 4711) == 4711
    with socket.create_connection(("127.0.0.9", port), timeout=PATIENCE_S):
        fields = taken(client)
        assert (fields.string(), fields.u32()) == (b"localhost", 4711)  # as the client asked


@pytest.mark.parametrize(
    "endpoint",
    [
        pb.ListenEndpoint(host="no.name.here"),
        pb.ListenEndpoint(port=65536),
        pb.ListenEndpoint(path=b"/tmp/x"),
        pb.ListenEndpoint(path_mode=0o600),
        pb.ListenEndpoint(host="192.0.2.1"),
    ],
    ids=["name", "port", "path", "mode", "not ours"],
)
def test_what_cannot_be_is_refused(policy: Policy, raw: Raw, endpoint: Any) -> None:
    open_house(policy)
    policy.on.ServerRequested = pb.ListenAnswer(listen=endpoint)
    client = raw().login()
    assert listen(client) is None
    client.open()


def test_a_port_in_use_is_refused(listening: Policy, raw: Raw, hello: int) -> None:
    client = raw().login()
    assert listen(client, port=hello) is None
    port = listen(client)
    assert listen(client, port=port) is None


def test_replies_keep_the_order(policy: Policy, raw: Raw) -> None:
    open_house(policy)
    gate = policy.gate()

    async def slow(_request: Any, _context: Any) -> Any:
        await gate.passed()
        return LISTEN

    policy.on.ServerRequested = slow
    client = raw().login()
    client.send(bytes([80]) + string("tcpip-forward") + boolean(True) + string("") + u32(0))
    client.send(bytes([80]) + string("nonsense@example.com") + boolean(True))
    policy.wait_for("ServerRequested")
    client.quiet(0.2)
    gate.open()
    assert client.until(81, 82).type == 81
    assert client.until(81, 82).type == 82


def test_cancel(listening: Policy, raw: Raw) -> None:
    client = raw().login()
    port = listen(client)
    with connected(port) as s:
        taken(client)
        assert ask(client, "cancel-tcpip-forward", string("other") + u32(port)) is None
        assert ask(client, "cancel-tcpip-forward", string("localhost") + u32(port)) is not None
        assert is_closed(port)
        client.send(bytes([94]) + u32(0) + string("still"))  # what began before goes on
        assert s.recv(10) == b"still"
    assert ask(client, "cancel-tcpip-forward", string("localhost") + u32(port)) is None


def test_a_client_that_refuses_closes_the_connection(listening: Policy, raw: Raw) -> None:
    client = raw().login()
    with connected(listen(client)) as s:
        message = client.until(90)
        message.string()
        client.send(bytes([92]) + message.take(4) + u32(2) + string("no") + string(""))
        assert s.recv(1) == b""


def test_a_late_answer_leaves_no_listener(policy: Policy, daemon: Daemon, raw: Raw) -> None:
    open_house(policy)
    gate, port = policy.gate(), free_port()

    async def slow(_request: Any, _context: Any) -> Any:
        await gate.passed()
        return LISTEN

    policy.on.ServerRequested = slow
    client = raw().login()
    client.send(bytes([80]) + string("tcpip-forward") + boolean(True) + string("") + u32(port))
    policy.wait_for("ServerRequested")
    client.close()
    daemon.wait_event("closed")
    gate.open()
    assert is_closed(port)
    assert not daemon.events("listen", outcome="accepted")


# ---- Unix sockets


def test_a_stale_socket_is_replaced_and_a_live_one_is_not(listening: Policy, raw: Raw, work: Path) -> None:
    path = str(work / "s.sock")
    client = raw().login()
    with serving(UnixServer(path, Hello)):
        assert ask(client, "streamlocal-forward@openssh.com", string(path)) is None
    assert Path(path).exists()
    assert ask(client, "streamlocal-forward@openssh.com", string(path)) is not None
    assert ask(client, "cancel-streamlocal-forward@openssh.com", string(path)) is not None
    assert not Path(path).exists()
    Path(path).write_text("a file")
    assert ask(client, "streamlocal-forward@openssh.com", string(path)) is None
    assert Path(path).read_text() == "a file"


def test_path_and_mode_of_the_answer(policy: Policy, raw: Raw, work: Path) -> None:
    open_house(policy)
    path = work / "elsewhere.sock"
    policy.on.UnixServerRequested = pb.ListenAnswer(listen=pb.ListenEndpoint(path=str(path).encode(), path_mode=0o660))
    client = raw().login()
    assert ask(client, "streamlocal-forward@openssh.com", string("/asked/for")) is not None
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(path))
        assert taken(client).string() == b"/asked/for"


@pytest.mark.parametrize("path", [b"", b"/a\0b", b"/" + b"p" * 107], ids=["empty", "NUL", "108 bytes"])
def test_no_path_is_never_asked_about(listening: Policy, raw: Raw, path: bytes) -> None:
    client = raw().login()
    assert ask(client, "streamlocal-forward@openssh.com", string(path)) is None
    assert not listening.requests("UnixServerRequested")


@pytest.mark.parametrize(
    "rest", [string("h") + u32(65536), string(b"a\0b") + u32(0), string("a\nb") + u32(0), string(b"\xff") + u32(0)], ids=["port", "NUL", "newline", "utf8"]
)
def test_no_place_is_never_asked_about(listening: Policy, raw: Raw, rest: bytes) -> None:
    client = raw().login()
    assert ask(client, "tcpip-forward", rest) is None
    assert not listening.requests("ServerRequested")


# ---- restrictions


@pytest.mark.parametrize(
    "restrictions, host, allowed",
    [
        (pb.Restrictions(no_port_forwarding=True), "localhost", False),
        (pb.Restrictions(permit_listen=pb.Patterns()), "localhost", False),
        (pb.Restrictions(permit_listen=pb.Patterns(patterns=["localhost:*"])), "localhost", True),
        (pb.Restrictions(permit_listen=pb.Patterns(patterns=["localhost:*"])), "*", False),
        (pb.Restrictions(permit_open=pb.Patterns()), "localhost", True),
    ],
)
def test_restrictions(listening: Policy, raw: Raw, restrictions: Any, host: str, allowed: bool) -> None:
    listening.on.AuthCompleted = pb.AuthCompletedAnswer(allow=pb.Allow(restrictions=restrictions))
    client = raw().login()
    assert (listen(client, host) is not None) == allowed
    assert len(listening.requests("ServerRequested")) == allowed
    assert ask(client, "streamlocal-forward@openssh.com", string("/tmp/never")) is None


def test_tightening_closes_listeners_and_their_channels(listening: Policy, raw: Raw) -> None:
    supervisor = supervised(listening)
    client = raw().login()
    port = listen(client)
    assert supervisor.wait("listener_opened").address.port == port
    with connected(port):
        taken(client)
        assert not supervisor.done(tighten=pb.Restrictions(no_pty=True)).error
        assert not is_closed(port)
        supervisor.done(tighten=pb.Restrictions(permit_listen=pb.Patterns()))
        client.until(97)
    assert is_closed(port)
    assert supervisor.wait("listener_closed").address.port == port


def test_tightening_overtakes_a_channel_that_is_being_offered(listening: Policy, raw: Raw) -> None:
    supervisor = supervised(listening)
    client = raw().login()
    with connected(listen(client)) as s:
        message = client.until(90)
        message.string()
        assert not supervisor.done(tighten=pb.Restrictions(no_port_forwarding=True)).error
        client.send(bytes([91]) + message.take(4) + u32(50) + u32(1 << 20) + u32(32768))
        client.until(97)
        assert s.recv(1) == b""


def test_tightening_ends_what_the_policy_talks_to(policy: Policy, raw: Raw) -> None:
    supervisor = supervised(policy)
    policy.on.ServerRequested = pb.ListenAnswer(listen=pb.ListenEndpoint(ask_each=True))
    policy.on.ForwardAccepted = pb.ForwardAcceptedAnswer(stream=pb.StreamEndpoint())
    client = raw().login()
    with connected(listen(client)) as s:
        s.sendall(b"x")
        assert s.recv(1) == b"x"
        supervisor.done(tighten=pb.Restrictions(no_port_forwarding=True))
        assert s.recv(1) == b""


# ---- asked about each


def forward_accepted(policy: Policy, **answer: Any) -> None:
    open_house(policy, cat)
    policy.on.ServerRequested = pb.ListenAnswer(listen=pb.ListenEndpoint(ask_each=True))
    policy.on.ForwardAccepted = pb.ForwardAcceptedAnswer(**answer)


def test_accepted_by_the_policy(policy: Policy, raw: Raw) -> None:
    forward_accepted(policy, accept=pb.Accept())
    client = raw().login()
    port = listen(client)
    with connected(port) as s:
        fields = taken(client)
        assert fields.string() == b"localhost"
        asked = policy.requests("ForwardAccepted")[0]
        assert (asked.listened.ip, asked.listened.port) == ("localhost", port)
        assert (asked.originator.ip, asked.originator.port) == s.getsockname()


@pytest.mark.parametrize("answer", [{"refuse": pb.Refuse()}, {}], ids=["refuse", "unset"])
def test_refused_by_the_policy(policy: Policy, raw: Raw, answer: dict[str, Any]) -> None:
    forward_accepted(policy, **answer)
    client = raw().login()
    with connected(listen(client)) as s:
        assert s.recv(1) == b""
    assert not client.global_request("no-channel-came@example.com")


def test_the_policy_talks_to_the_peer_itself(policy: Policy, raw: Raw) -> None:
    forward_accepted(policy, stream=pb.StreamEndpoint())
    client = raw().login()
    data = os.urandom(2_000_000)
    with connected(listen(client)) as s:
        assert exchange(s, data) == data
    opened = policy.wait_stream().opened
    assert opened.WhichOneof("kind") == "forwarded" and opened.forwarded.originator.ip == "127.0.0.1"
    assert not client.global_request("no-channel-came@example.com")


def test_a_peer_of_the_policys_goes_with_the_connection(policy: Policy, raw: Raw) -> None:
    forward_accepted(policy, stream=pb.StreamEndpoint())
    client = raw().login()
    with connected(listen(client)) as s:
        s.sendall(b"x")
        assert s.recv(1) == b"x"
        client.close()
        assert s.recv(1) == b""


# ---- managed by the policy


async def say_hello(channel: ChannelStream) -> None:
    await channel.write(b"hello from token " + channel.opened.opened_by_policy.token)


def test_a_managed_listener(policy: Policy, raw: Raw) -> None:
    supervisor = supervised(policy, program=say_hello)
    policy.on.ServerRequested = pb.ListenAnswer(managed=pb.ManagedListener(port=8080))
    client = raw().login()
    assert listen(client, "example.org") == 8080
    note = supervisor.wait("listener_opened")
    assert note.managed and (note.address.ip, note.address.port) == ("example.org", 8080)
    originator = pb.Address(ip="203.0.113.5", port=99)
    number = supervisor.act(open_forwarded_tcpip=pb.OpenToClient(token=b"one", listened=note.address, originator=originator))
    fields = taken(client)
    assert (fields.string(), fields.u32(), fields.string(), fields.u32()) == (b"example.org", 8080, b"203.0.113.5", 99)
    assert b"hello from token one" in client.until(94).message
    assert not supervisor.wait("done", lambda done: done.id == number).error
    elsewhere = pb.OpenToClient(listened=pb.Address(ip="example.org", port=81))
    assert supervisor.done(open_forwarded_tcpip=elsewhere).error == "that was not granted"
    assert supervisor.done(open_forwarded_streamlocal=pb.OpenToClient(listened=note.address)).error
    assert supervisor.done(open_x11=pb.OpenToClient()).error and supervisor.done(open_agent=pb.OpenToClient()).error
    assert not supervisor.done(close_listener=note.address).error
    assert supervisor.done(open_forwarded_tcpip=pb.OpenToClient(listened=note.address)).error


def test_an_open_that_the_client_refuses(policy: Policy, raw: Raw) -> None:
    supervisor = supervised(policy)
    policy.on.UnixServerRequested = pb.ListenAnswer(managed=pb.ManagedListener())
    client = raw().login()
    assert ask(client, "streamlocal-forward@openssh.com", string("/managed")) is not None
    number = supervisor.act(open_forwarded_streamlocal=pb.OpenToClient(listened=pb.Address(path=b"/managed")))
    message = client.until(90)
    assert message.string() == b"forwarded-streamlocal@openssh.com"
    client.send(bytes([92]) + message.take(4) + u32(1) + string("not now") + string(""))
    assert supervisor.wait("done", lambda done: done.id == number).error == "not now"


def test_x11_and_agent_where_they_were_granted(policy: Policy, raw: Raw) -> None:
    async def program(channel: ChannelStream) -> None:
        if channel.opened.WhichOneof("kind") == "session":
            await cat(channel)
        else:
            await say_hello(channel)

    supervisor = supervised(policy, program=program)
    policy.on.X11Requested = policy.on.AgentRequested = pb.GrantAnswer(allow=pb.Allow())
    client = raw().login()
    session = client.open()
    assert client.request(session, "auth-agent-req@openssh.com")
    assert client.request(session, "x11-req", boolean(False) + string("MIT-MAGIC-COOKIE-1") + string("00" * 16) + u32(0))
    assert supervisor.done(open_agent=pb.OpenToClient()).error  # not before its program runs
    assert client.request(session, "exec", string("x"))
    for action, kind in (("open_agent", b"auth-agent@openssh.com"), ("open_x11", b"x11")):
        supervisor.act(**{action: pb.OpenToClient(token=kind, originator=pb.Address(ip="192.0.2.9", port=7))})
        message = client.until(90)
        assert message.string() == kind
        peer = message.u32()
        message.u32(), message.u32()
        assert kind != b"x11" or (message.string(), message.u32()) == (b"192.0.2.9", 7)
        client.send(bytes([91]) + u32(peer) + u32(60) + u32(1 << 20) + u32(32768))
        assert b"hello from token " + kind in client.until(94).message
    supervisor.done(tighten=pb.Restrictions(no_agent_forwarding=True, no_x11_forwarding=True))
    assert supervisor.done(open_agent=pb.OpenToClient()).error and supervisor.done(open_x11=pb.OpenToClient()).error


def test_a_managed_listener_needs_a_port(policy: Policy, raw: Raw) -> None:
    open_house(policy)
    for port in (0, 65536):
        policy.on.ServerRequested = pb.ListenAnswer(managed=pb.ManagedListener(port=port))
        assert listen(raw().login()) is None


# ---- many


def test_no_more_than_so_many_listeners(listening: Policy, raw: Raw) -> None:
    client = raw().login()
    granted = [listen(client) for _ in range(130)]
    assert granted.count(None) == 2
    assert listen(client) is None


def test_200_connections_to_one_listener(listening: Policy, ssh: OpenSsh, echo: int) -> None:
    port = free_port()
    with background(ssh, "-R", f"{port}:127.0.0.1:{echo}"):
        poll(lambda: not is_closed(port), "the listener")
        sockets = [connected(port) for _ in range(200)]
        for number, s in enumerate(sockets):
            s.sendall(b"%d" % number)
            s.shutdown(socket.SHUT_WR)
        for number, s in enumerate(sockets):
            assert s.makefile("rb").read() == b"%d" % number
            s.close()
