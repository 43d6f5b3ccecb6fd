"""Clients that break the protocol: they are cut off with a reason, and the policy hears nothing of it."""

from __future__ import annotations

import socket
import time
from typing import Callable

import pytest

from harness.answers import PASSWORD, PUBLICKEY, begin, cat, open_house, password_house, password_ok, wait_close
from harness.contract import pb
from harness.daemon import Daemon, is_sanitized, rss_kib
from harness.deadline import within_login_deadline
from harness.policy import Policy, hang
from harness.rawclient import RawClient, UserKey
from harness.rawssh import Closed, Disconnected
from harness.wait import PATIENCE_S
from harness.wire import boolean, string, u32

Raw = Callable[..., RawClient]

@pytest.mark.parametrize("number", [61, 62, 63, 64, 65, 66, 70, 79])
def test_method_messages_out_of_place(policy: Policy, raw: Raw, number: int) -> None:
    password_house(policy)
    client = raw()
    client.service()
    client.send(bytes([number]) + u32(0))
    client.send(client.password_message("alice", "wonderland"))
    try:
        while (message := client.recv()).type not in (51, 52):
            assert message.type in (3, 7), message
    except (Disconnected, Closed):
        pass


def test_unknown_messages_are_unimplemented(policy: Policy, raw: Raw) -> None:
    open_house(policy, cat)
    client = raw().login()
    for number in (101, 127, 191, 255):
        client.send(bytes([number]) + b"anything")
        assert client.expect(3).u32() > 0
    client.open()


# ---- limits of a login


def test_six_failures_disconnect(policy: Policy, raw: Raw) -> None:
    password_house(policy)
    client = raw()
    client.service()
    client.try_none()
    for _ in range(5):
        assert client.try_password("alice", "no").type == 51
    client.send(client.password_message("alice", "no"))
    assert client.expect_disconnect().code in (2, 14)
    assert len(policy.requests("ValidatePassword")) == 6


def test_bad_signatures_count_as_failures(policy: Policy, raw: Raw) -> None:
    key = UserKey()
    policy.on.BeginAuth = begin(PUBLICKEY)
    client = raw()
    client.service()
    for _ in range(5):
        assert client.try_key("alice", key, signer=UserKey()).type == 51
    client.send(client.key_message("alice", key, signer=UserKey()))
    assert client.expect_disconnect().code in (2, 14)


def test_changing_the_name_does_not_reset_the_failures(policy: Policy, raw: Raw) -> None:
    password_house(policy)
    client = raw()
    client.service()
    for number in range(5):
        assert client.try_password(f"user{number}", "no").type == 51
    client.send(client.password_message("alice", "no"))
    assert client.expect_disconnect().code in (2, 14)


def test_forty_requests_disconnect(policy: Policy, raw: Raw) -> None:
    """Probes that succeed are no failures, but requests."""
    key = UserKey()
    policy.on.BeginAuth = begin(PUBLICKEY)
    policy.on.ValidatePublicKey = pb.AuthAnswer(allow=pb.Allow())
    client = raw()
    client.service()
    for _ in range(40):
        assert client.probe("alice", key).type == 60
    client.send(client.key_message("alice", key))
    assert client.expect_disconnect().code in (2, 14)
    assert len(policy.requests("ValidatePublicKey")) == 40


def test_a_flood_of_pipelined_requests_is_bounded(policy: Policy, daemon: Daemon, raw: Raw) -> None:
    """While the policy thinks, thousands of requests cost neither memory nor questions."""
    policy.on.BeginAuth = hang
    client = raw()
    client.service()
    before = rss_kib(daemon.pid)
    client.socket.settimeout(3)
    try:
        for _ in range(400):
            client.send_all(*[client.password_message("alice", "x" * 1000)] * 50)
    except TimeoutError:
        pass  # the daemon has stopped reading
    assert is_sanitized(daemon.pid) or rss_kib(daemon.pid) - before < 8 * 1024
    assert len(policy.requests("BeginAuth")) == 1


@pytest.mark.parametrize("stage", ["silent", "version", "kex", "made"])
def test_login_deadline_before_keys(policy: Policy, start_daemon: Callable[..., Daemon], stage: str) -> None:
    """At every stage before the login is done, the policy's time included."""
    password_house(policy)
    if stage == "made":
        policy.on.ConnectionMade = hang
    daemon = start_daemon("--login-timeout", "1s")
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", daemon.port), PATIENCE_S) as client:
        if stage in ("version", "kex"):
            client.sendall(b"SSH-2.0-Slow\r\n")
        if stage == "kex":
            client.sendall(u32(1004) + b"\x04\x14")  # the beginning of a KEXINIT
        while client.recv(4096):
            pass
    assert 0.9 < time.monotonic() - began
    policy.wait_for("ConnectionLost")
    assert not daemon.events("login")


@pytest.mark.parametrize("stage", ["keys", "service", "failed", "pending", "completing"])
def test_login_deadline(policy: Policy, start_daemon: Callable[..., Daemon], stage: str) -> None:
    password_house(policy)
    if stage == "pending":
        policy.on.ValidatePassword = hang
    if stage == "completing":
        policy.on.AuthCompleted = hang

    def reach(client: RawClient) -> None:
        if stage != "keys":
            client.service()
        if stage == "failed":
            client.try_password("alice", "no")
        if stage == "pending":
            client.send(client.password_message("alice", "x"))
        if stage == "completing":
            client.send(client.password_message("alice", "wonderland"))
            client.expect(52)

    reached = within_login_deadline(start_daemon, reach)
    assert reached.client.expect_disconnect().reason
    reached.client.close()
    assert 0.9 * reached.seconds < time.monotonic() - reached.began
    policy.wait_for("ConnectionLost")
    assert not reached.daemon.events("login")


def test_no_deadline_after_login(policy: Policy, start_daemon: Callable[..., Daemon]) -> None:
    open_house(policy, cat)
    reached = within_login_deadline(start_daemon, RawClient.login)
    reached.client.quiet(reached.seconds + 0.6)
    reached.client.execute()
    reached.client.close()


# ---- names and services


@pytest.mark.parametrize("name", [b"\xff\xfe", b"root\0x", b"\xc3", b"a" * 1025], ids=["not-utf8", "nul", "cut", "long"])
def test_illegal_user_names_disconnect(policy: Policy, raw: Raw, name: bytes) -> None:
    password_house(policy)
    client = raw()
    client.service()
    client.send(client.auth_message(name, "none"))
    assert client.expect_disconnect().code == 15
    assert "BeginAuth" not in policy.names()


@pytest.mark.parametrize("service", ["ssh-connection", "ssh-connection\0", "", "nonsense"])
def test_wrong_service_request(policy: Policy, raw: Raw, service: str) -> None:
    client = raw()
    client.service(service)
    assert client.expect_disconnect().code == 7


def test_wrong_service_in_an_authentication_request(policy: Policy, raw: Raw) -> None:
    password_house(policy)
    client = raw()
    client.service()
    client.send(client.auth_message("alice", "none", service="ssh-userauth"))
    assert client.expect_disconnect().code == 7
    assert "BeginAuth" not in policy.names()


def test_authentication_before_the_service(policy: Policy, raw: Raw) -> None:
    password_house(policy)
    client = raw()
    client.send(client.password_message("alice", "wonderland"))
    assert client.expect_disconnect().code == 2
    assert "BeginAuth" not in policy.names()


def test_requests_after_success_are_ignored(policy: Policy, raw: Raw) -> None:
    """RFC 4252 section 5.1."""
    open_house(policy, cat)
    client = raw().login()
    client.send(client.auth_message("root", "none"))
    client.open()
    assert len(policy.requests("BeginAuth")) == 1


MALFORMED = {
    "empty": b"",
    "no-service": string("alice"),
    "no-method": string("alice") + string("ssh-connection"),
    "length-beyond": string("alice") + u32(0x7FFFFFFF) + b"x",
    "length-4g": u32(0xFFFFFFFF),
    "password-cut": RawClient.auth_message("alice", "password", boolean(False) + u32(100) + b"x")[1:],
    "password-more": RawClient.auth_message("alice", "password", boolean(False) + string("wonderland") + b"more")[1:],
    "key-cut": RawClient.auth_message("alice", "publickey", boolean(True) + string("ssh-ed25519"))[1:],
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_requests_disconnect(policy: Policy, raw: Raw, kind: str) -> None:
    policy.on.BeginAuth = begin(PASSWORD, PUBLICKEY)
    policy.on.ValidatePassword = password_ok()
    client = raw()
    client.service()
    client.send(bytes([50]) + MALFORMED[kind])
    assert client.expect_disconnect().code == 2
    assert "ValidatePassword" not in policy.names()


# ---- channels


BAD_CHANNEL_MESSAGES = {
    "data-to-nobody": bytes([94]) + u32(77) + string("x"),
    "request-to-nobody": RawClient.request_message(77, "exec", string("x")),
    "data-cut": bytes([94]) + u32(0) + u32(100) + b"x",
    "stderr-from-the-client": bytes([95]) + u32(0) + u32(1) + string("x"),
    "window-overflow": bytes([93]) + u32(0) + u32(0xFFFFFFFF),
    "beyond-packet": bytes([94]) + u32(0) + string("x" * 40_000),
    "confirmation": bytes([91]) + u32(0) * 4,
    "open-failure": bytes([92]) + u32(0) * 2 + string("") * 2,
    "open-cut": bytes([90]) + string("session"),
}


@pytest.mark.parametrize("kind", BAD_CHANNEL_MESSAGES)
def test_bad_channel_messages_disconnect(policy: Policy, raw: Raw, kind: str) -> None:
    open_house(policy, wait_close)
    client = raw().login()
    client.execute()
    client.send(BAD_CHANNEL_MESSAGES[kind])
    assert client.expect_disconnect().code == 2
    policy.wait_for("ConnectionLost")


def test_data_beyond_the_window_disconnects(policy: Policy, raw: Raw) -> None:
    open_house(policy, wait_close)
    policy.on.SessionRequested = pb.SessionAnswer(accept=pb.Accept(), options=pb.ChannelOptions(window_bytes=4096))
    client = raw().login()
    client.send(client.open_message())
    confirmation = client.expect(91)
    confirmation.u32()
    number = confirmation.u32()
    assert confirmation.u32() == 4096
    client.data(number, b"x" * 4000)
    client.data(number, b"x" * 4000)
    assert client.expect_disconnect().code == 2


@pytest.mark.parametrize("after", ["eof", "close"])
def test_data_after_the_end_never_arrives(policy: Policy, raw: Raw, after: str) -> None:
    open_house(policy, wait_close)
    client = raw().login()
    number = client.execute()
    record = policy.wait_stream()
    client.eof(number) if after == "eof" else client.close_channel(number)
    client.data(number, b"too late")
    assert client.expect_disconnect().code == 2
    policy.wait_for("ConnectionLost")
    assert bytes(record.input) == b""


@pytest.mark.parametrize("kind", ["nonsense", "", "x11", "forwarded-tcpip", "session\0"])
def test_unknown_channel_types_are_refused(policy: Policy, raw: Raw, kind: str) -> None:
    open_house(policy, cat)
    client = raw().login()
    client.send(client.open_message(kind, 5))
    failure = client.expect(92)
    assert (failure.u32(), failure.u32()) == (5, 3)
    client.open()


def test_no_more_sessions_is_kept(policy: Policy, raw: Raw) -> None:
    """no-more-sessions@openssh.com: the client itself closes that door."""
    open_house(policy, cat)
    client = raw().login()
    client.open()
    client.send(bytes([80]) + string("no-more-sessions@openssh.com") + boolean(False))
    client.send(client.open_message(channel=1))
    try:
        assert client.expect(92).u32() == 1
    except Disconnected:
        pass


def test_a_flood_of_channel_opens_is_bounded(policy: Policy, daemon: Daemon, raw: Raw) -> None:
    open_house(policy, wait_close)
    client = raw().login()
    before = rss_kib(daemon.pid)
    for start in range(0, 3000, 100):
        client.send_all(*[client.open_message(channel=start + i) for i in range(100)])
        for _ in range(100):
            client.expect(91, 92)
    assert len(policy.requests("SessionRequested")) <= 10
    assert is_sanitized(daemon.pid) or rss_kib(daemon.pid) - before < 8 * 1024
