"""Who may begin to log in: start-up limits, the cap of each source, and penalties. Every case comes from addresses of its own."""

from __future__ import annotations

import resource
import socket
from typing import Any, Callable, Iterator

import pytest

from harness.answers import begin, cat, open_house, password_house, PASSWORD
from harness.clients import OpenSsh
from harness.contract import pb
from harness.daemon import Daemon
from harness.policy import Policy, hang
from harness.rawclient import RawClient
from harness.rawssh import Closed, Disconnected
from harness.wait import PATIENCE_S, poll

StartDaemon = Callable[..., Daemon]

TOO_MANY = b"Exceeded MaxStartups\r\n"
PENALISED = b"Not allowed at this time\r\n"
DEFAULTS = ("--start-up", "10:30:100", "--per-source-start-up", "8", "--penalties=on")
AT_ONCE = ("--penalties=on", "--penalty", "min=1ms")  # the first offence counts


def connect(port: int, source: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), PATIENCE_S, (source, 0))


def first_words(client: socket.socket) -> bytes:
    """What a client is greeted with, up to a line's end."""
    words = b""
    while not words.endswith(b"\n"):
        try:
            piece = client.recv(256)
        except ConnectionResetError:
            piece = b""
        if not piece:
            break
        words += piece
    return words


def greeting(port: int, source: str) -> bytes:
    with connect(port, source) as client:
        return first_words(client)


def is_let_in(port: int, source: str) -> bool:
    return greeting(port, source).startswith(b"SSH-2.0-")


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# ---- start-ups


def test_2000_silent_sockets_keep_nobody_else_out(policy: Policy, start_daemon: StartDaemon, connect_ssh: Any, many_files: None) -> None:
    """With the default limits, from one address; beside them somebody else logs in, and somebody who is in stays in."""
    open_house(policy, cat)
    daemon = start_daemon(*DEFAULTS)
    inside = RawClient(daemon.port, source="127.0.7.1").login()
    channel = inside.execute("cat")
    flood = [connect(daemon.port, "127.0.7.2") for _ in range(2000)]
    words = [first_words(client) for client in flood]
    assert sum(word.startswith(b"SSH-2.0-") for word in words) == 8
    assert words.count(TOO_MANY) == 2000 - 8
    honest: OpenSsh = connect_ssh(daemon)
    result = honest.run("cat", stdin=b"hello", options=("-b", "127.0.7.3"), timeout=30)
    assert (result.status, result.out) == (255, b"hello") or (result.status, result.out) == (0, b"hello"), str(result)
    inside.data(channel, b"still here")
    assert inside.expect(94).take(4 + 4 + 10).endswith(b"still here")
    for client in flood:
        client.close()
    poll(lambda: is_let_in(daemon.port, "127.0.7.2"), "the places are given back")
    assert len(daemon.events("connections_refused")) < 100
    assert sum(int(line["refused"]) for line in daemon.events("connections_refused")) <= 2000 - 8
    inside.close()


def test_places_are_given_back_exactly_once(policy: Policy, start_daemon: StartDaemon) -> None:
    """Two may log in at once; a hundred come one after the other and end in every way, most of them badly."""
    password_house(policy)
    daemon = start_daemon("--start-up", "2")

    def good(client: RawClient) -> None:
        client.service()
        assert client.try_password("alice", "wonderland").type == 52

    def bad(client: RawClient) -> None:
        client.service()
        assert client.try_password("alice", "no").type == 51

    def forbidden(client: RawClient) -> None:
        client.send(client.open_message())

    def nothing(client: RawClient) -> None:
        pass

    stays = RawClient(daemon.port)
    good(stays)  # who is in takes no place
    for number in range(100):
        end = (good, bad, forbidden, nothing)[number % 4]
        client = poll(lambda: try_raw(daemon.port), "a place is free")
        end(client)
        client.close()
    first, second = (poll(lambda: try_raw(daemon.port), "a place is free") for _ in range(2))
    assert greeting(daemon.port, "127.0.7.9") == TOO_MANY
    good(first)
    third = poll(lambda: try_raw(daemon.port), "a place is free")
    for client in (first, second, third, stays):
        client.close()


def try_raw(port: int) -> RawClient | None:
    try:
        return RawClient(port)
    except Closed:
        return None


def test_places_are_of_the_process(policy: Policy, start_daemon: StartDaemon) -> None:
    """However the kernel spreads connections over the workers."""
    daemon = start_daemon("--workers", "4", "--start-up", "5")
    clients = [connect(daemon.port, "127.0.7.1") for _ in range(40)]
    words = [first_words(client) for client in clients]
    assert sum(word.startswith(b"SSH-2.0-") for word in words) == 5
    for client in clients:
        client.close()


# ---- penalties


def fails(daemon: Daemon, policy: Policy, source: str) -> None:
    client = RawClient(daemon.port, source=source)
    client.service()
    client.try_password("alice", "no")
    client.close()


def guesses_on(daemon: Daemon, policy: Policy, source: str) -> None:
    client = RawClient(daemon.port, source=source)
    client.service()
    client.send_all(*[client.password_message("alice", "no")] * 6)
    assert client.expect_disconnect().code == 14
    client.close()


def leaves(daemon: Daemon, policy: Policy, source: str) -> None:
    connect(daemon.port, source).close()


def speaks_http(daemon: Daemon, policy: Policy, source: str) -> None:
    with connect(daemon.port, source) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n" * 100)
        while first_words(client):
            pass


def stays_silent(daemon: Daemon, policy: Policy, source: str) -> None:
    with connect(daemon.port, source) as client:
        while first_words(client):
            pass


def names_nobody(daemon: Daemon, policy: Policy, source: str) -> None:
    client = RawClient(daemon.port, source=source)
    client.service()
    client.send(client.auth_message(b"\xff", "none"))
    assert client.expect_disconnect().code == 15
    client.close()


def sends_garbage(daemon: Daemon, policy: Policy, source: str) -> None:
    client = RawClient(daemon.port, source=source)
    client.socket.sendall(b"\xff" * 64)
    client.expect_end()
    client.close()


def acts_as_if_logged_in(daemon: Daemon, policy: Policy, source: str) -> None:
    client = RawClient(daemon.port, source=source)
    client.send(client.open_message())
    assert client.expect_disconnect().code == 2
    client.close()


def is_not_wanted(daemon: Daemon, policy: Policy, source: str) -> None:
    policy.on.ConnectionMade = pb.ConnectionMadeAnswer(deny=pb.Deny(message="not you"))
    client = RawClient(daemon.port, source=source)
    assert client.expect_disconnect().reason == "not you"
    client.close()


OFFENCES = {
    "authfail": ("authfail", fails, "failed authentication"),
    "six-guesses": ("authfail", guesses_on, "failed authentication"),
    "noauth": ("noauth", leaves, "no authentication attempted"),
    "http": ("noauth", speaks_http, "no authentication attempted"),
    "grace-exceeded": ("grace-exceeded", stays_silent, "exceeded the login deadline"),
    "invaliduser": ("invaliduser", names_nobody, "invalid user name"),
    "crash": ("crash", sends_garbage, "protocol error"),
    "out-of-order": ("crash", acts_as_if_logged_in, "protocol error"),
    "refuseconnection": ("refuseconnection", is_not_wanted, "refused by the policy"),
}


@pytest.mark.parametrize("kind", OFFENCES)
def test_an_offence_is_penalised(policy: Policy, start_daemon: StartDaemon, kind: str) -> None:
    password_house(policy)
    source = f"127.0.8.{list(OFFENCES).index(kind) + 1}"
    offence, offend, why = OFFENCES[kind]
    limits = ("--login-timeout", "500ms") if offence == "grace-exceeded" else ()
    daemon = start_daemon(*AT_ONCE, "--penalty", f"{offence}=1h", *limits)
    offend(daemon, policy, source)
    line = daemon.wait_event("penalty", source=source)
    assert line["why"] == why and int(line["ms"]) == 600_000, line  # max
    assert greeting(daemon.port, source) == PENALISED
    assert daemon.wait_event("connections_refused")["why"] == why
    assert is_let_in(daemon.port, "127.0.8.200")
    assert len([line for line in daemon.events("connection") if line["peer"].startswith(source + ":")]) == 1


def is_penalised(daemon: Daemon, source: str) -> bool:
    return any(line["source"] == source for line in daemon.events("penalty"))


def test_a_good_login_is_no_offence(policy: Policy, start_daemon: StartDaemon) -> None:
    password_house(policy)
    daemon = start_daemon(*AT_ONCE)
    client = RawClient(daemon.port, source="127.0.9.1")
    client.service()
    assert client.try_password("alice", "no").type == 51  # mistyped once
    assert client.try_password("alice", "wonderland").type == 52
    daemon.wait_event("login")
    client.socket.sendall(b"\xff" * 64)  # and garbage afterwards
    client.close()
    daemon.wait_event("closed", user="alice")
    assert is_let_in(daemon.port, "127.0.9.1")


@pytest.mark.parametrize("question", ["ConnectionMade", "BeginAuth", "ValidatePassword", "AuthCompleted"])
def test_an_outage_of_the_policy_is_nobodys_offence(policy: Policy, start_daemon: StartDaemon, question: str) -> None:
    """It would keep everybody out when the policy is back."""
    password_house(policy)
    setattr(policy.on, question, hang)
    daemon = start_daemon(*AT_ONCE, "--rpc-deadline", f"{question}=300ms", "--max-failures", "1")
    client = RawClient(daemon.port, source="127.0.9.2")
    if question != "ConnectionMade":
        client.service()
        client.send(client.password_message("alice", "wonderland"))
    with pytest.raises((Closed, Disconnected)):
        client.until()
    client.close()
    daemon.wait_event("closed")
    assert is_let_in(daemon.port, "127.0.9.2")


def test_penalties_end(policy: Policy, start_daemon: StartDaemon) -> None:
    daemon = start_daemon(*AT_ONCE, "--penalty", "noauth=2s")
    leaves(daemon, policy, "127.0.9.3")
    daemon.wait_event("penalty")
    assert greeting(daemon.port, "127.0.9.3") == PENALISED
    poll(lambda: is_let_in(daemon.port, "127.0.9.3"), "the penalty ends", every=0.1)


def test_small_offences_add_up(policy: Policy, start_daemon: StartDaemon) -> None:
    """The default figures: one failed login is forgiven, a series is not."""
    password_house(policy)
    daemon = start_daemon(*DEFAULTS, "--penalty", "authfail=10s")
    fails(daemon, policy, "127.0.9.4")
    daemon.wait_event("closed")
    assert not daemon.events("penalty")
    fails(daemon, policy, "127.0.9.4")
    assert 15_000 <= int(daemon.wait_event("penalty")["ms"]) <= 20_000
    assert greeting(daemon.port, "127.0.9.4") == PENALISED


def test_a_source_may_be_a_network(policy: Policy, start_daemon: StartDaemon) -> None:
    daemon = start_daemon(*AT_ONCE, "--per-source-net-block", "24:64", "--per-source-start-up", "2", "--penalty", "noauth=1h")
    clients = [connect(daemon.port, f"127.0.10.{host}") for host in (1, 2, 3)]
    words = [first_words(client) for client in clients]
    assert words.count(TOO_MANY) == 1 and sum(word.startswith(b"SSH-2.0") for word in words) == 2
    for client in clients:
        client.close()
    daemon.wait_event("penalty", source="127.0.10.0/24")
    assert greeting(daemon.port, "127.0.10.99") == PENALISED
    assert is_let_in(daemon.port, "127.0.11.1")


def test_exempt_networks_are_never_penalised(policy: Policy, start_daemon: StartDaemon) -> None:
    daemon = start_daemon(*AT_ONCE, "--penalty-exempt", "127.0.12.0/24", "--penalty-exempt", "::1")
    sends_garbage(daemon, policy, "127.0.12.1")
    sends_garbage(daemon, policy, "127.0.13.1")
    daemon.wait_event("penalty", source="127.0.13.1")
    assert is_let_in(daemon.port, "127.0.12.1")
    assert not is_penalised(daemon, "127.0.12.1")


@pytest.mark.parametrize("mode", ["permissive", "deny-all"])
def test_a_full_table(policy: Policy, start_daemon: StartDaemon, mode: str) -> None:
    daemon = start_daemon(*AT_ONCE, "--penalty", "noauth=0", "--penalty-sources", "1", "--penalty-overflow", mode)
    sends_garbage(daemon, policy, "127.0.14.1")
    daemon.wait_event("penalty", source="127.0.14.1")
    if mode == "deny-all":
        assert greeting(daemon.port, "127.0.14.2") == PENALISED
        assert daemon.wait_event("connections_refused")["why"] == "too many penalised sources"
    else:
        sends_garbage(daemon, policy, "127.0.14.2")
        daemon.wait_event("penalty", source="127.0.14.2")
        assert is_let_in(daemon.port, "127.0.14.1")
        assert greeting(daemon.port, "127.0.14.2") == PENALISED


def test_ipv6_is_penalised_by_its_prefix(policy: Policy, start_daemon: StartDaemon) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    daemon = start_daemon(*AT_ONCE, "--listen", "[::1]:0", "--per-source-net-block", "32:64")
    v6 = daemon.ports[1]
    with socket.create_connection(("::1", v6), PATIENCE_S) as client:
        client.sendall(b"SSH-2.0-x\r\n" + b"\xff" * 64)
        while first_words(client):
            pass
    daemon.wait_event("penalty", source="::/64")
    with socket.create_connection(("::1", v6), PATIENCE_S) as client:
        assert first_words(client) == PENALISED
    assert is_let_in(daemon.port, "127.0.15.1")  # the families are apart
