"""Other servers that are down, slow, dead or hostile: the user is told why, the daemon lives on, and nothing is left behind."""

from __future__ import annotations

import base64
import os
import random
import signal
import socket
import threading
import time
from typing import Any, Callable, Iterator

import pytest
from test_direct import free_port, open_tcp, refusal
from test_process_life import descriptors

from harness import wire
from harness.answers import hop, upstream_house
from harness.clients import OpenSsh
from harness.contract import pb
from harness.daemon import Daemon, is_sanitized, rss_kib
from harness.policy import Policy
from harness.rawclient import RawClient, UserKey
from harness.rawserver import RawServed, raw_hop
from harness.sshd import Sshd
from harness.wait import PATIENCE_S, poll
from harness.wire import boolean, string, u32

Raw = Callable[..., RawClient]

KNOWN = "* ssh-ed25519 " + base64.b64encode(UserKey().blob).decode()


@pytest.fixture
def told(policy: Policy, daemon: Daemon, ssh: OpenSsh, raw: Raw) -> Callable[..., str]:
    """told(hop): what the users of a session and of a direct channel are told; the same, and never nothing."""

    def attempt(*hops: Any) -> str:
        upstream_house(policy, *hops)
        result = ssh.run("x")
        assert result.status == 255 and result.out == b"" and hops[-1].host in result.err, result
        client = raw().login()
        code, reason = refusal(client, open_tcp(client, "127.0.0.1", 80))
        client.close()
        assert code == 2 and reason and reason in result.err, (reason, result.err)
        assert all(32 <= ord(letter) for letter in reason), reason
        return reason

    return attempt


def test_down(told: Any) -> None:
    assert "refused" in told(hop("127.0.0.1", free_port(), KNOWN, password="x"))


def test_no_such_name(told: Any) -> None:
    told(hop("no-such-host.invalid", 22, KNOWN, password="x"))


def test_an_address_that_nobody_may_connect_to(told: Any) -> None:
    assert "not allowed" in told(hop("169.254.169.254", 22, KNOWN, password="x"))


def test_addresses_that_the_configuration_denies(policy: Policy, start_daemon: Any, connect_ssh: Any, sshd: Sshd) -> None:
    """Whatever the policy says; by name as well."""
    ssh = connect_ssh(start_daemon("--forward-deny", "127.0.0.0/8"))
    for host in ("127.0.0.1", "localhost", "::ffff:127.0.0.1"):
        upstream_house(policy, hop(host, sshd.port, "* " + sshd.host_key.public, password="x"))
        result = ssh.run("echo in")
        assert result.status == 255 and ("not allowed" in result.err or "refused" in result.err), result
    assert "Connection from" not in sshd.log


# ---- silence, at each step


SILENT: dict[str, Callable[[RawServed], object]] = {
    "at once": lambda served: None,
    "after a part of its version": lambda served: served.socket.sendall(b"SSH-2.0-Ra"),
    "after its version": lambda served: served.socket.sendall(b"SSH-2.0-Raw\r\n"),
    "after keys": lambda served: served.greet(),
    "after the service": lambda served: served.greet().take_service(),
    "after the service, with messages": lambda served: (served.greet().take_service(), [served.send(bytes([wire.IGNORE]) + string("x")) for _ in range(9)]),
}


@pytest.mark.parametrize("when", SILENT)
def test_silent(told: Any, start_raw_server: Any, when: str) -> None:
    """The deadline of the answer counts until we are logged in."""

    def script(served: RawServed) -> None:
        SILENT[when](served)
        while served.socket.recv(4096):
            pass

    server = start_raw_server(script)
    began = time.monotonic()
    reason = told(raw_hop(server, connect_timeout_s=1))
    assert time.monotonic() - began >= 2  # two of them
    assert "timed out" in reason.lower() or "time" in reason.lower() or "second" in reason.lower(), reason
    server.wait_ends(2)


def test_silent_before_it_accepts(told: Any) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        told(hop("127.0.0.1", deaf.getsockname()[1], KNOWN, password="x", connect_timeout_s=1))
        for filler in fillers:
            filler.close()


def test_drops_of_bytes_do_not_move_the_deadline(told: Any, start_raw_server: Any) -> None:
    """Lines before the version, one after another, for as long as it likes."""

    def script(served: RawServed) -> None:
        while True:
            served.socket.sendall(b"please wait\r\n")
            time.sleep(0.1)

    server = start_raw_server(script)
    told(raw_hop(server, connect_timeout_s=1))
    server.wait_ends(2)


# ---- nonsense, at each step


def garbage(served: RawServed) -> None:
    served.socket.sendall(random.Random(4096).randbytes(4096))  # the same each time


def with_version(served: RawServed, version: bytes) -> None:
    served.socket.sendall(version)


def before_keys(*payloads: bytes) -> Callable[[RawServed], object]:
    def script(served: RawServed) -> None:
        served.socket.sendall(served.server_version + b"\r\n")
        served.client_version = served.read_line()
        served.send_all(*payloads)

    return script


def after_keys(*payloads: bytes) -> Callable[[RawServed], object]:
    return lambda served: served.greet().send_all(*payloads)


def after_service(*payloads: bytes) -> Callable[[RawServed], object]:
    return lambda served: (served.greet().take_service(), served.send_all(*payloads))


OPEN = bytes([wire.CHANNEL_OPEN]) + string("session") + u32(0) + u32(1000) + u32(1000)
NONSENSE: dict[str, Callable[[RawServed], object]] = {
    "random bytes at once": garbage,
    "HTTP": lambda served: with_version(served, b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
    "SSH-1": lambda served: with_version(served, b"SSH-1.5-Old\r\n"),
    "a version without end": lambda served: with_version(served, b"SSH-2.0-" + b"x" * 100_000),
    "a line without end": lambda served: with_version(served, b"x" * 1_000_000),
    "many lines": lambda served: with_version(served, b"line\r\n" * 200_000),
    "NUL in the version": lambda served: with_version(served, b"SSH-2.0-a\0b\r\n"),
    "too many clients": lambda served: with_version(served, b"Exceeded MaxStartups\r\n"),
    "random bytes after the version": lambda served: (with_version(served, b"SSH-2.0-Raw\r\n"), garbage(served)),
    "a packet of 4 GB": lambda served: with_version(served, b"SSH-2.0-Raw\r\n\xff\xff\xff\xff" + b"x" * 100),
    "a login before keys": before_keys(bytes([wire.USERAUTH_SUCCESS])),
    "a channel before keys": before_keys(bytes([wire.OPEN_CONFIRMATION]) + u32(0) * 4),
    "a cut key exchange": before_keys(bytes([wire.KEXINIT]) + b"x" * 20),
    "no common method": before_keys(bytes([wire.KEXINIT]) + bytes(16) + b"".join(string(x) for x in ("none",) * 8 + ("", "")) + b"\0" + u32(0)),
    "new keys at once": before_keys(bytes([wire.NEWKEYS])),
    "a disconnect": before_keys(bytes([wire.DISCONNECT]) + u32(2) + string("go \x1b[31maway") + string("")),
    "random bytes after keys": lambda served: (served.greet(), garbage(served)),
    "a login that nobody asked for": after_keys(bytes([wire.USERAUTH_SUCCESS])),
    "another service": lambda served: (served.greet().until(wire.SERVICE_REQUEST), served.send(bytes([wire.SERVICE_ACCEPT]) + string("ssh-connection"))),
    "a channel before the login": after_service(OPEN),
    "a confirmation before the login": after_service(bytes([wire.OPEN_CONFIRMATION]) + u32(0) * 4),
    "a request of a client": after_service(bytes([wire.USERAUTH_REQUEST]) + string("root") + string("ssh-connection") + string("none")),
    "a cut failure": after_service(bytes([wire.USERAUTH_FAILURE]) + u32(1000)),
    "an unknown message": after_service(bytes([192]), bytes([wire.USERAUTH_FAILURE]) + string("") + boolean(False)),
    "a disconnect instead of the login": after_service(bytes([wire.DISCONNECT]) + u32(11) + string("too \x07many") + string("")),
    "message 60 of nobody": after_service(bytes([60]) + string("x") + string("y")),
    "an empty message": lambda served: (served.greet().take_service(), served.send(b"")),
}


@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense(told: Any, start_raw_server: Any, daemon: Daemon, what: str) -> None:
    def script(served: RawServed) -> None:
        NONSENSE[what](served)
        try:
            served.socket.shutdown(socket.SHUT_WR)
        except OSError:
            return
        while served.socket.recv(4096):
            pass

    server = start_raw_server(script)
    told(raw_hop(server, connect_timeout_s=20))
    server.wait_ends(2)


def test_a_disconnects_words_are_told(told: Any, start_raw_server: Any) -> None:
    """As text: no escapes reach anybody's terminal."""

    def script(served: RawServed) -> None:
        served.greet().take_service()
        served.send(bytes([wire.DISCONNECT]) + u32(11) + string("only \x1b[31mon weekdays") + string(""))
        served.drain()

    assert "on weekdays" in told(raw_hop(start_raw_server(script)))


# ---- breaking the rules of channels, with the login behind it


@pytest.fixture
def session(policy: Policy, daemon: Daemon, ssh: OpenSsh, start_raw_server: Any) -> Callable[[Callable[[RawServed, int], object]], Any]:
    """session(act): a session's end, after the server has acted so on it."""

    def attempt(act: Callable[[RawServed, int], object]) -> Any:
        def script(served: RawServed) -> None:
            number = served.greet().login().session()
            act(served, number)
            served.drain()

        upstream_house(policy, raw_hop(start_raw_server(script)))
        return ssh.run("x", stdin=b"")

    return attempt


BROKEN: dict[str, Callable[[RawServed, int], object]] = {
    "data of no channel": lambda served, number: served.data(number + 1000, b"x"),
    "a close of no channel": lambda served, number: served.send(bytes([wire.CHANNEL_CLOSE]) + u32(77)),
    "a confirmation of an open channel": lambda served, number: served.confirm(number),
    "a failure of an open channel": lambda served, number: served.send(bytes([wire.OPEN_FAILURE]) + u32(number) + u32(1) + string("") + string("")),
    "more than the window": lambda served, number: [served.data(number, bytes(32768)) for _ in range(4000)],
    "more than a packet": lambda served, number: served.data(number, bytes(200_000)),
    "a window of more than 2^32": lambda served, number: [served.send(bytes([wire.WINDOW_ADJUST]) + u32(number) + u32(0xFFFFFFFF)) for _ in range(2)],
    "success of nothing": lambda served, number: [served.send(bytes([wire.CHANNEL_SUCCESS]) + u32(number)) for _ in range(100)],
    "data after eof": lambda served, number: (served.send(bytes([wire.CHANNEL_EOF]) + u32(number)), served.data(number, b"x")),
    "cut data": lambda served, number: served.send(bytes([wire.CHANNEL_DATA]) + u32(number) + u32(1000) + b"x"),
    "a cut request": lambda served, number: served.tell(number, "exit-status", b"\0"),
    "a login once more": lambda served, number: served.welcome(),
    "random bytes": lambda served, number: garbage(served),
    "replies to no global request": lambda served, number: [served.send(bytes([wire.REQUEST_SUCCESS])) for _ in range(100)],
    "an unknown message": lambda served, number: served.send(bytes([101]) + u32(number)),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_rules(session: Any, daemon: Daemon, what: str) -> None:
    """The session ends, or what was said is passed over; the daemon lives on either way, and so does the client's connection."""

    def act(served: RawServed, number: int) -> None:
        BROKEN[what](served, number)
        served.finish(number, 5)

    result = session(act)
    assert result.status in (5, 255), result
    if result.status == 255:
        assert result.err.strip(), result


def test_requests_that_nobody_knows(session: Any) -> None:
    def act(served: RawServed, number: int) -> None:
        for name in ("nonsense", "shell", "pty-req", "exit-signal@example.org"):
            served.tell(number, name, string("x"), reply=True)
            assert served.until(99, 100).type == wire.CHANNEL_FAILURE
        served.finish(number, 5)

    assert session(act).status == 5


def test_an_end_without_a_status(session: Any) -> None:
    result = session(lambda served, number: served.send(bytes([wire.CHANNEL_CLOSE]) + u32(number)))
    assert result.status == 255, result


def test_an_exit_status_twice(session: Any) -> None:
    def act(served: RawServed, number: int) -> None:
        served.tell(number, "exit-status", u32(5))
        served.finish(number, 6)

    assert session(act).status in (5, 6, 255)


@pytest.mark.parametrize("what", ["opens", "requests", "channel requests"])
def test_a_flood_of_a_server_that_reads_nothing(policy: Policy, daemon: Daemon, raw: Raw, start_raw_server: Any, what: str) -> None:
    """Each wants an answer; the daemon holds a bounded number of them."""
    poured, over = threading.Event(), threading.Event()

    def script(served: RawServed) -> None:
        number = served.greet().login().session()
        served.data(number, b"up")
        message = {
            "opens": bytes([wire.CHANNEL_OPEN]) + string("x11") + u32(0) + u32(1000) + u32(1000) + string("") + u32(0),
            "requests": bytes([wire.GLOBAL_REQUEST]) + string("x") + boolean(True),
            "channel requests": bytes([wire.CHANNEL_REQUEST]) + u32(number) + string("x") + boolean(True),
        }[what]
        served.socket.settimeout(3)
        try:
            for _ in range(300):
                served.socket.sendall(b"".join(served.pack(message) for _ in range(1000)))
        except OSError:
            pass  # it takes no more, or has gone
        poured.set()
        over.wait(PATIENCE_S)

    upstream_house(policy, raw_hop(start_raw_server(script)))
    client = raw().login()
    client.execute("x")
    client.until(94)
    before = rss_kib(daemon.pid)
    assert poured.wait(100)
    if not is_sanitized(daemon.pid):
        assert rss_kib(daemon.pid) - before < 4 * 1024
    client.close_channel(0)
    assert client.global_request("still here") is False
    over.set()


# ---- the end in the middle


def test_a_server_that_is_killed_in_the_middle(policy: Policy, sshd: Sshd, ssh: OpenSsh, raw: Raw) -> None:
    upstream_house(policy, sshd.hop())
    client = ssh.popen("echo up; exec cat")
    assert client.stdout.readline() == b"up\n"
    other = raw().login()
    number = other.execute("echo up; exec cat")
    other.until(94)
    (first, second) = sshd.wait_connections(2)
    os.kill(first, signal.SIGKILL)
    os.kill(second, signal.SIGKILL)
    out, err = client.communicate(timeout=PATIENCE_S)
    assert (client.returncode, out) == (255, b"") and b"127.0.0.1" in err, err
    other.until(97)
    other.close_channel(number)
    assert other.execute("true", channel=1) >= 0  # the client's own connection lives, and a new one is made
    sshd.wait_logins(3)


def test_a_server_that_is_killed_in_the_middle_of_a_transfer(policy: Policy, sshd: Sshd, ssh: OpenSsh) -> None:
    upstream_house(policy, sshd.hop())
    client = ssh.popen("exec cat /dev/zero")
    assert client.stdout.read(1 << 20) == bytes(1 << 20)
    os.kill(sshd.wait_connections(1)[0], signal.SIGKILL)
    while client.stdout.read(1 << 20):
        pass
    assert client.wait(PATIENCE_S) == 255
    assert b"127.0.0.1" in client.stderr.read()


def test_a_server_that_dies_ends_direct_channels(policy: Policy, sshd: Sshd, raw: Raw) -> None:
    upstream_house(policy, sshd.hop())
    client = raw().login()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client.send(open_tcp(client, "127.0.0.1", listener.getsockname()[1]))
        client.until(91)
        os.kill(sshd.wait_connections(1)[0], signal.SIGKILL)
        client.until(97)


def test_a_server_that_says_goodbye(session: Any) -> None:
    def act(served: RawServed, number: int) -> None:
        served.send(bytes([wire.DISCONNECT]) + u32(11) + string("maintenance \x1b[5mnow") + string(""))

    result = session(act)
    assert result.status == 255 and "maintenance" in result.err and "\x1b" not in result.err, result


def test_a_server_that_answers_no_more(policy: Policy, start_daemon: Any, connect_ssh: Any, start_raw_server: Any) -> None:
    """Three keepalives without an answer are the end."""
    asked: list[int] = []

    def script(served: RawServed) -> None:
        number = served.greet().login().session()
        served.data(number, b"up\n")
        while True:
            asked.append(served.recv().type)

    upstream_house(policy, raw_hop(start_raw_server(script)))
    client = connect_ssh(start_daemon("--upstream-keepalive", "1s")).popen("x")
    assert client.stdout.readline() == b"up\n"
    out, err = client.communicate(timeout=PATIENCE_S)
    assert client.returncode == 255 and b"127.0.0.1" in err, err
    assert asked.count(wire.GLOBAL_REQUEST) == 3


def test_keepalives_that_are_answered(policy: Policy, start_daemon: Any, connect_ssh: Any, start_raw_server: Any) -> None:
    def script(served: RawServed) -> None:
        number = served.greet().login().session()
        for n in range(5):
            served.until(wire.GLOBAL_REQUEST)
            served.send(bytes([wire.REQUEST_FAILURE if n % 2 else wire.REQUEST_SUCCESS]))
        served.finish(number, 5)
        served.drain()

    upstream_house(policy, raw_hop(start_raw_server(script)))
    client = connect_ssh(start_daemon("--upstream-keepalive", "1s")).popen("x")
    assert client.wait(PATIENCE_S) == 5


# ---- nothing is left


@pytest.fixture
def failing(policy: Policy, start_raw_server: Any, sshd: Sshd) -> Iterator[list[Any]]:
    """Hops that fail in as many ways, and one that works."""
    kinds = [
        lambda served: None,
        garbage,
        lambda served: (with_version(served, b"SSH-2.0-Raw\r\n"), garbage(served)),
        lambda served: served.greet(),
        lambda served: (served.greet().take_service(), served.take_request(), served.refuse_login("")),
        lambda served: (served.greet().login().take_open()),
        lambda served: (served.greet().login().take_open(), garbage(served)),
    ]
    yield [
        *(raw_hop(start_raw_server(kind)) for kind in kinds),
        hop("127.0.0.1", free_port(), KNOWN, password="x"),
        sshd.hop(known_hosts="other.example " + sshd.host_key.public),
        sshd.hop(password="wrong"),
        sshd.hop(),
    ]


def test_memory_and_descriptors_return(policy: Policy, daemon: Daemon, failing: list[Any], raw: Raw) -> None:
    upstream_house(policy)
    client = raw().login()
    policy.on.ConnectionRequested = lambda request, _: pb.OpenAnswer(upstream=pb.UpstreamEndpoint(hops=[failing[request.orig_port]]))
    closed = free_port()

    def burst(rounds: int) -> None:
        for _ in range(rounds):
            for i in range(len(failing)):
                rest = string("127.0.0.1") + u32(closed) + string("127.0.0.1") + u32(i)
                client.send(client.open_message("direct-tcpip", i, rest))
            for _ in failing:
                message = client.until(91, 92)
                if message.type == wire.OPEN_CONFIRMATION:
                    raise AssertionError("nothing here can be opened")

    before = descriptors(daemon)
    burst(10)
    poll(lambda: descriptors(daemon) <= before, f"{before} descriptors again")
    memory = rss_kib(daemon.pid)
    burst(30)
    poll(lambda: descriptors(daemon) <= before, f"{before} descriptors again")
    if not is_sanitized(daemon.pid):
        assert rss_kib(daemon.pid) - memory < 2048, "KiB for 300 failures"


def test_sessions_that_come_and_go(policy: Policy, daemon: Daemon, sshd: Sshd, raw: Raw) -> None:
    """Each has its own connection there, since none is left when the next one comes."""
    upstream_house(policy, sshd.hop())
    client = raw().login()

    def short(count: int) -> None:
        for _ in range(count):
            number = client.execute("exit 3")
            status = client.until(98)
            assert (status.u32(), status.string(), status.boolean(), status.u32()) == (0, b"exit-status", False, 3)
            client.until(97)
            client.close_channel(number)
            sshd.wait_connections(0)

    before = descriptors(daemon)
    short(10)
    memory = rss_kib(daemon.pid)
    short(40)
    poll(lambda: descriptors(daemon) <= before, f"{before} descriptors again")
    if not is_sanitized(daemon.pid):
        assert rss_kib(daemon.pid) - memory < 1024, "KiB for 40 sessions"


def test_many_sessions_on_one_connection_leave_nothing(policy: Policy, daemon: Daemon, sshd: Sshd, raw: Raw) -> None:
    upstream_house(policy, sshd.hop())
    client = raw().login()
    client.execute("exec cat", channel=100)

    def short(count: int) -> None:
        for _ in range(count):
            number = client.execute("echo x; exit 3", channel=1)
            client.until(97)
            client.close_channel(number)

    short(20)
    memory = rss_kib(daemon.pid)
    short(200)
    assert len(sshd.logins()) == 1
    if not is_sanitized(daemon.pid):
        assert rss_kib(daemon.pid) - memory < 1024, "KiB for 200 sessions"


def test_the_end_of_the_daemon_ends_its_connections(policy: Policy, start_daemon: Any, connect_ssh: Any, sshd: Sshd) -> None:
    upstream_house(policy, sshd.hop())
    daemon = start_daemon()
    client = connect_ssh(daemon).popen("echo up; exec cat")
    assert client.stdout.readline() == b"up\n"
    daemon.stop()
    sshd.wait_connections(0)


def test_a_daemon_that_ends_while_it_connects(policy: Policy, start_daemon: Any, connect_ssh: Any, start_raw_server: Any) -> None:
    def script(served: RawServed) -> None:
        served.greet().take_service()
        served.drain()

    server = start_raw_server(script)
    upstream_house(policy, raw_hop(server))
    daemon = start_daemon()
    connect_ssh(daemon).popen("x")
    served = server.wait_served()
    poll(lambda: served.seen, "the service request")
    daemon.stop()
    server.wait_ends()
