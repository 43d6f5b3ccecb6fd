"""Direct channels that go on at another server: -L, -W, -D, Unix sockets; what it refuses, and when connections to it come and go."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from pathlib import Path
from typing import Any, Callable

import asyncssh
import pytest
from test_direct import Echo, UnixServer, background, dial, echo, exchange, free_port, hello, open_tcp, refusal, serving  # noqa: F401

from harness.answers import me, upstream_house
from harness.clients import OpenSsh
from harness.contract import pb
from harness.daemon import Daemon
from harness.keys import Key, make_key
from harness.policy import Policy
from harness.rawclient import RawClient
from harness.rawserver import RawServed, raw_hop
from harness.sshd import Sshd
from harness.wire import string, u32

Raw = Callable[..., RawClient]


@pytest.fixture
def house(policy: Policy, sshd: Sshd) -> Policy:
    return upstream_house(policy, sshd.hop())


# ---- with the clients that people have


def test_openssh_w(house: Policy, sshd: Sshd, ssh: OpenSsh, hello: int) -> None:  # noqa: F811
    result = ssh.run(None, options=("-W", f"127.0.0.1:{hello}"))
    assert result.out == b"hello from the other side\n", result
    assert len(sshd.logins()) == 1


def test_openssh_l_both_ways_with_half_close(house: Policy, ssh: OpenSsh, echo: int) -> None:  # noqa: F811
    data = os.urandom(5_000_000)
    port = free_port()
    with background(ssh, "-L", f"127.0.0.1:{port}:localhost:{echo}"):
        with dial(port) as s:
            assert exchange(s, data) == data


def test_openssh_l_to_a_unix_socket(house: Policy, ssh: OpenSsh, work: Path) -> None:
    path, port = str(work / "echo.sock"), free_port()
    with serving(UnixServer(path, Echo)), background(ssh, "-L", f"127.0.0.1:{port}:{path}"):
        with dial(port) as s:
            assert exchange(s, b"through a path") == b"through a path"


def test_openssh_d(house: Policy, ssh: OpenSsh, echo: int) -> None:  # noqa: F811
    port = free_port()
    with background(ssh, "-D", f"127.0.0.1:{port}"):
        with dial(port) as s:
            s.sendall(b"\5\1\0")
            assert s.recv(2) == b"\5\0"
            s.sendall(b"\5\1\0\1" + socket.inet_aton("127.0.0.1") + struct.pack(">H", echo))
            assert s.recv(10)[:2] == b"\5\0"
            assert exchange(s, b"socks") == b"socks"


def test_openssh_j(house: Policy, daemon: Daemon, start_sshd: Any, ssh: OpenSsh, other_key: Key, user_key: Key) -> None:
    """The client's own jump, through us and the server there, to a third; the far keys are the client's own business."""
    far = start_sshd()
    jump = f"ssh -F none -p {daemon.port} -o UserKnownHostsFile={ssh.known_hosts} -o BatchMode=yes -W %h:%p alice@127.0.0.1"
    client = OpenSsh(far.port, ssh.work, other_key)
    result = client.run("echo far", user=me(), key=user_key, options=("-o", f"ProxyCommand={jump}"))
    assert result.out == b"far\n", result


def test_500_connections_through_one(policy: Policy, sshd: Sshd, start_daemon: Any, echo: int) -> None:  # noqa: F811
    upstream_house(policy, sshd.hop())
    daemon = start_daemon("--max-channels", "1000")

    async def one(c: asyncssh.SSHClientConnection, number: int) -> None:
        reader, writer = await c.open_connection("127.0.0.1", echo, encoding=None)
        text = b"connection %d" % number
        writer.write(text)
        writer.write_eof()
        assert await reader.read() == text

    async def main() -> None:
        async with asyncssh.connect("127.0.0.1", daemon.port, username="alice", known_hosts=None, client_keys=None, config=None) as c:
            await asyncio.gather(*(one(c, i) for i in range(500)))

    asyncio.run(asyncio.wait_for(main(), 100))
    assert len(sshd.logins()) == 1
    daemon.wait_event("channel_closed", count=500)


# ---- what the other server refuses


def test_a_connection_that_fails_there(house: Policy, raw: Raw) -> None:
    client = raw().login()
    assert refusal(client, open_tcp(client, "127.0.0.1", free_port())) == (2, "Connection refused")
    client.send(client.open_message("direct-streamlocal@openssh.com", 0, string("/nowhere/at/all") + string("") + u32(0)))
    failure = client.until(92)
    assert (failure.u32(), failure.u32()) == (0, 2)


def test_a_place_that_is_forbidden_there(policy: Policy, start_sshd: Any, raw: Raw, hello: int) -> None:  # noqa: F811
    upstream_house(policy, start_sshd("PermitOpen none").hop())
    client = raw().login()
    code, reason = refusal(client, open_tcp(client, "127.0.0.1", hello))
    assert code == 1 and reason


REFUSALS = {
    "any code": ((4711, b"not you"), (4711, "not you")),
    "unicode": ((1, "nicht für dich".encode()), (1, "nicht für dich")),
    "no words": ((3, b""), (3, None)),
    "code 0": ((0, b"zero"), (None, "zero")),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_its_code_and_words_pass(policy: Policy, start_raw_server: Any, raw: Raw, what: str) -> None:
    (code, words), expected = REFUSALS[what]

    def script(served: RawServed) -> None:
        number, _, _ = served.greet().login().take_open()
        served.send(bytes([92]) + u32(number) + u32(code) + string(words) + string("de"))
        served.drain()

    upstream_house(policy, raw_hop(start_raw_server(script)))
    client = raw().login()
    got = refusal(client, open_tcp(client, "host.example", 80))
    assert all(want is None or want == have for want, have in zip(expected, got)), got


@pytest.mark.parametrize("words", [b"\x1b]0;owned\x07\x1b[2Jgone", b"\xff\xfe\x80", b"x" * 30000, b"a\0b\r\nc"], ids=["escapes", "not utf-8", "long", "nul"])
def test_words_that_are_no_text_do_no_harm(policy: Policy, start_raw_server: Any, raw: Raw, words: bytes) -> None:
    def script(served: RawServed) -> None:
        number, _, _ = served.greet().login().take_open()
        served.send(bytes([92]) + u32(number) + u32(2) + string(words) + string(""))
        served.drain()

    upstream_house(policy, raw_hop(start_raw_server(script)))
    client = raw().login()
    client.send(open_tcp(client, "host.example", 80))
    failure = client.until(92)
    assert (failure.u32(), failure.u32()) == (0, 2)
    shown = failure.string()
    assert len(shown) <= 2048
    assert all(ord(letter) >= 32 for letter in shown.decode())


def test_what_was_asked_for_goes_on(policy: Policy, start_raw_server: Any, raw: Raw) -> None:
    """Host, port and originator exactly as the client said; the path, too."""
    opened: list[tuple[str, list[Any]]] = []

    def script(served: RawServed) -> None:
        served.greet().login()
        while True:
            number, kind, rest = served.take_open()
            fields = [rest.string(), rest.u32(), rest.string(), rest.u32()] if kind == "direct-tcpip" else [rest.string()]
            opened.append((kind, fields))
            served.confirm(number, len(opened))

    upstream_house(policy, raw_hop(start_raw_server(script)))
    client = raw().login()
    client.send(open_tcp(client, "Host.Example", 8080))
    client.until(91)
    client.send(client.open_message("direct-streamlocal@openssh.com", 1, string(b"/run/\xff x") + string("") + u32(0)))
    client.until(91)
    assert opened == [
        ("direct-tcpip", [b"Host.Example", 8080, b"198.51.100.4", 4711]),
        ("direct-streamlocal@openssh.com", [b"/run/\xff x"]),
    ]


def test_data_stays_within_its_window_and_packets(policy: Policy, start_raw_server: Any, raw: Raw) -> None:
    """And nothing comes before it opens its window again."""
    sizes: list[int] = []

    def script(served: RawServed) -> None:
        number, _, _ = served.greet().login().take_open()
        served.confirm(number, window=10_000, packet=1_000)
        while sum(sizes) < 20_000:
            message = served.until(94)
            message.u32()
            sizes.append(len(message.string()))
            if sum(sizes) == 10_000:
                served.send(bytes([93]) + u32(number) + u32(10_000))
        served.data(number, b"enough")
        served.drain()

    server = start_raw_server(script)
    upstream_house(policy, raw_hop(server))
    client = raw().login()
    client.send(open_tcp(client, "host", 80))
    confirmation = client.until(91)
    confirmation.u32()
    number = confirmation.u32()
    client.data(number, b"x" * 20_000)
    client.until(94)
    assert sum(sizes) == 20_000 and max(sizes) <= 1_000


# ---- connections to it: who shares one, and when it goes


def test_channels_share_a_connection_until_the_last_one_goes(house: Policy, sshd: Sshd, raw: Raw, echo: int) -> None:  # noqa: F811
    """Sessions and direct channels of one client; opened at once, while there is no connection yet."""
    client = raw().login()
    client.send_all(
        open_tcp(client, "127.0.0.1", echo, 0), open_tcp(client, "127.0.0.1", echo, 1), client.open_message("session", 2)
    )
    numbers = {}
    for _ in range(3):
        confirmation = client.until(91)
        channel = confirmation.u32()
        numbers[channel] = confirmation.u32()
    assert client.request(numbers[2], "exec", string("exec cat"))
    for channel, number in numbers.items():
        client.data(number, b"%d" % channel)
    answers = {}
    while len(answers) < 3:
        message = client.until(94)
        channel = message.u32()
        answers[channel] = message.string()
    assert answers == {0: b"0", 1: b"1", 2: b"2"}
    assert len(sshd.logins()) == len(sshd.connections()) == 1
    for channel in (0, 2):
        client.close_channel(numbers[channel])
        client.until(97)
    client.data(numbers[1], b"still")
    assert client.until(94).message.endswith(b"still")
    assert len(sshd.connections()) == 1
    client.close_channel(numbers[1])
    client.until(97)
    sshd.wait_connections(0)
    assert "Disconnected from" in sshd.log or "Connection closed by" in sshd.log
    client.send(open_tcp(client, "127.0.0.1", echo, 3))
    client.until(91)
    assert len(sshd.logins()) == 2


def test_a_client_that_goes_takes_its_connections_along(house: Policy, sshd: Sshd, raw: Raw, echo: int) -> None:  # noqa: F811
    clients = [raw().login() for _ in range(3)]
    for client in clients:
        client.send(open_tcp(client, "127.0.0.1", echo))
        client.until(91)
    sshd.wait_connections(3)  # none shares with another client, whoever he is
    assert len(sshd.logins()) == 3
    clients[0].close()
    sshd.wait_connections(2)
    clients[1].disconnect()
    sshd.wait_connections(1)
    clients[2].data(0, b"still")
    assert clients[2].until(94).message.endswith(b"still")


def test_another_credential_is_another_connection(policy: Policy, start_sshd: Any, raw: Raw, work: Path, user_key: Key, echo: int) -> None:  # noqa: F811
    """Or other trusted keys: what one answer allows is nothing to another."""
    second = make_key(work / "second")
    both = work / "both"
    both.write_text(f"{user_key.public}\n{second.public}\n")
    sshd = start_sshd(f"AuthorizedKeysFile {both}")
    hops = [sshd.hop(), sshd.hop(private_key=second.path.read_bytes()), sshd.hop(known_hosts=sshd.known_hosts * 2), sshd.hop()]
    upstream_house(policy)
    policy.on.ConnectionRequested = lambda request, _: pb.OpenAnswer(upstream=pb.UpstreamEndpoint(hops=[hops[request.orig_port]]))
    client = raw().login()
    for i in range(4):
        rest = string("127.0.0.1") + u32(echo) + string("127.0.0.1") + u32(i)
        client.send(client.open_message("direct-tcpip", i, rest))
        client.until(91)
    assert len(sshd.logins()) == len(sshd.connections()) == 3
    assert len({line.split()[-1] for line in sshd.logins()}) == 2


def test_the_wrong_credential_beside_the_right_one(policy: Policy, sshd: Sshd, raw: Raw, other_key: Key, echo: int) -> None:  # noqa: F811
    """A connection that stands lets nobody in who has not the credential himself."""
    upstream_house(policy, sshd.hop())
    client = raw().login()
    client.send(open_tcp(client, "127.0.0.1", echo))
    client.until(91)
    upstream_house(policy, sshd.hop(private_key=other_key.path.read_bytes()))
    code, reason = refusal(client, open_tcp(client, "127.0.0.1", echo, 1))
    assert code == 2 and reason
    client.data(0, b"still")
    assert client.until(94).message.endswith(b"still")


def test_a_client_that_goes_while_we_connect(policy: Policy, start_raw_server: Any, raw: Raw, daemon: Daemon) -> None:
    """At each step: the other server sees us go."""
    steps = {
        "version": lambda served: served.read_line(),
        "keys": lambda served: served.greet(),
        "service": lambda served: served.greet().take_service(),
        "login": lambda served: (served.greet().take_service(), served.take_request()),
        "open": lambda served: served.greet().login().take_open(),
    }
    for name, step in steps.items():
        here: list[str] = []

        def script(served: RawServed) -> None:
            step(served)
            with server.board:
                here.append(name)
            while served.socket.recv(4096):
                pass

        server = start_raw_server(script)
        upstream_house(policy, raw_hop(server))
        client = raw().login()
        client.send(open_tcp(client, "127.0.0.1", 80))
        server.board.wait(lambda: here, f"the step {name}")
        client.close()
        server.wait_ends(1)
