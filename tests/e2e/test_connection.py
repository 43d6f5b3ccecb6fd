"""What every question carries, and what is reported: ConnectionLost once, debug messages, the log's audit lines."""

from __future__ import annotations

import re
import socket
import threading
from typing import Callable

import pytest

from harness.answers import open_house, password_house, say, wait_close
from harness.clients import OpenSsh
from harness.daemon import Daemon
from harness.policy import Policy, hang
from harness.rawclient import RawClient
from harness.wait import PATIENCE_S
from harness.wire import boolean, string

Raw = Callable[..., RawClient]


def test_context_of_every_question(policy: Policy, daemon: Daemon, raw: Raw) -> None:
    password_house(policy)
    client = raw()
    client.service()
    client.try_password("alice", "wonderland")
    client.execute()
    policy.wait_stream()
    client.disconnect()
    policy.wait_for("ConnectionLost")
    contexts = [call.request.context for call in policy.calls]  # a Channel's is that of its first event
    ids = {context.connection_id for context in contexts}
    assert len(ids) == 1 and re.fullmatch(r"[0-9a-f]{32}", ids.pop())
    questions = [call.request.context.question_id for call in policy.calls if call.name != "Channel"]
    assert all(questions) and len(set(questions)) == len(questions)
    for context in contexts:
        assert context.contract_revision == 1 and context.daemon
        assert (context.peer.ip, context.peer.port) == client.socket_name
        assert (context.local.ip, context.local.port) == ("127.0.0.1", daemon.port)
    later = [call.request.context for call in policy.calls if call.name != "ConnectionMade"]
    assert {context.client_version for context in later} == {"SSH-2.0-Raw_1.0"}
    assert {context.session_id for context in later} == {client.session_id}
    assert {context.user for context in later} == {"alice"}


def test_every_question_has_a_deadline(policy: Policy, raw: Raw) -> None:
    password_house(policy)
    client = raw()
    client.service()
    client.try_password("alice", "wonderland")
    client.execute()
    for call in policy.calls:
        if call.name != "Channel":
            assert call.deadline_s is not None and 0 < call.deadline_s <= 10.5, call


def test_trace_context_travels_as_metadata(policy: Policy, raw: Raw) -> None:
    open_house(policy, say(b""))
    raw().login()
    parents = [call.metadata.get("traceparent", "") for call in policy.calls]
    assert all(re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", parent) for parent in parents), parents
    assert len({parent[3:35] for parent in parents}) == 1, "one trace a connection"


def test_two_connections_have_two_ids(policy: Policy, raw: Raw) -> None:
    open_house(policy, say(b""))
    raw().login(), raw().login()
    assert len({request.context.connection_id for request in policy.requests("BeginAuth")}) == 2


# ---- ConnectionLost


def test_lost_is_reported_once_with_counts(policy: Policy, daemon: Daemon, ssh: OpenSsh) -> None:
    open_house(policy, say(b"x" * 100_000))
    assert ssh.run("x").status == 0
    lost = policy.wait_for("ConnectionLost")
    assert lost.clean and lost.disconnect_code == 11
    assert lost.context.user == "alice" and lost.context.authenticated
    assert lost.bytes_sent > 100_000 and lost.bytes_received > 1_000
    assert 0 < lost.duration_ms < PATIENCE_S * 1000
    daemon.wait_event("closed")
    assert ssh.run("x").status == 0  # a second connection, so that a second report would have come by now
    policy.wait_for("ConnectionLost", 2)
    assert len({request.context.connection_id for request in policy.requests("ConnectionLost")}) == 2


@pytest.mark.parametrize("stage", ["version", "keys", "login", "session"])
def test_cut_connections_are_lost_unclean(policy: Policy, daemon: Daemon, raw: Raw, stage: str) -> None:
    open_house(policy, wait_close)
    if stage == "version":
        with socket.create_connection(("127.0.0.1", daemon.port)) as plain:
            plain.recv(100)
    else:
        client = raw()
        if stage != "keys":
            client.login()
        if stage == "session":
            client.execute()
        client.close()
    lost = policy.wait_for("ConnectionLost")
    assert not lost.clean and lost.reason
    assert bool(lost.context.user) is (stage in ("login", "session"))


def test_disconnect_of_the_client_is_told_with_its_code(policy: Policy, raw: Raw) -> None:
    open_house(policy)
    raw().login().disconnect(14, "no more methods here")
    lost = policy.wait_for("ConnectionLost")
    assert lost.disconnect_code == 14 and "no more methods here" in lost.reason


def test_nobody_waits_for_a_report(policy: Policy, ssh: OpenSsh) -> None:
    open_house(policy, say(b"x"))
    policy.on.ConnectionLost = hang
    for _ in range(3):
        assert ssh.run("x").status == 0
    policy.wait_for("ConnectionLost", 3)


def test_pending_questions_are_cancelled_with_the_connection(policy: Policy, raw: Raw) -> None:
    policy.on.BeginAuth = hang
    client = raw()
    client.service()
    client.send(client.auth_message("alice", "none"))
    policy.wait_for("BeginAuth")
    client.close()
    policy.wait_end("BeginAuth", "cancelled")
    policy.wait_for("ConnectionLost")


# ---- DebugMsgReceived


def debug(text: bytes | str, always: bool = False, language: str = "") -> bytes:
    return bytes([4]) + boolean(always) + string(text) + string(language)


def test_debug_messages_are_reported_at_any_time(policy: Policy, raw: Raw) -> None:
    open_house(policy)
    client = raw()
    client.send(debug("before login", True, "en"))
    first = policy.wait_for("DebugMsgReceived")
    assert (first.message, first.language, first.always_display, first.context.user) == ("before login", "en", True, "")
    client.login()
    client.send(debug("after"))
    second = policy.wait_for("DebugMsgReceived", 2)
    assert (second.message, second.always_display, second.context.user) == ("after", False, "alice")


def test_debug_messages_before_login_are_bounded(policy: Policy, raw: Raw) -> None:
    open_house(policy)
    client = raw()
    client.send_all(*[debug(f"message {i}") for i in range(100)])
    client.login()
    policy.wait_for("AuthCompleted")
    assert len(policy.requests("DebugMsgReceived")) <= 16


@pytest.mark.parametrize("text", [b"a\0b", b"\xff\xfe"])
def test_unclean_debug_text_harms_nobody(policy: Policy, raw: Raw, text: bytes) -> None:
    open_house(policy)
    client = raw()
    client.send(debug(text))
    client.login()


# ---- the log


def test_audit_lines_begin_with_the_connection_id(policy: Policy, daemon: Daemon, raw: Raw) -> None:
    password_house(policy)
    client = raw()
    client.service()
    client.try_password("alice", "no")
    client.try_password("alice", "wonderland")
    client.execute("date")
    client.disconnect()
    daemon.wait_event("closed")
    connection = policy.wait_for("BeginAuth").context.connection_id
    for event in ("login", "channel_open", "program", "closed"):
        lines = [line for line in daemon.lines if f"event={event}" in line]
        assert lines and all(line.startswith(connection) for line in lines), event


@pytest.mark.parametrize(
    "name", ["two\nlines event=login", "esc\x1b[31m", "quote\" user=root", "tab\t \\", "x" * 1000], ids=["lf", "esc", "quote", "tab", "long"]
)
def test_names_cannot_forge_lines(policy: Policy, daemon: Daemon, raw: Raw, name: str) -> None:
    client = raw()
    client.service()
    client.try_password(name, "x")
    client.disconnect()
    daemon.wait_event("closed")
    assert not daemon.events("login")
    for line in daemon.lines:
        assert len(line) < 4096 and not set(line) & {"\x1b", "\0"}, line
        assert re.match(r"([0-9a-f]{32}|-) time=|\(stderr", line), line


def test_json_lines(policy: Policy, start_daemon: Callable[..., Daemon], connect_ssh: Callable[..., OpenSsh]) -> None:
    import json

    open_house(policy, say(b""))
    daemon = start_daemon("--log-format", "json", ready=False)
    daemon.wait_text('"ready"')
    listening = json.loads(daemon.wait_text('"listening"'))
    port = int(listening["address"].rpartition(":")[2])
    client = RawClient(port).login()
    client.disconnect()
    daemon.wait_text('"closed"')
    for line in daemon.lines:
        assert isinstance(json.loads(line), dict)


# ---- many at once


def test_forty_connections_at_once(policy: Policy, daemon: Daemon, raw: Raw) -> None:
    open_house(policy, say(b"x"))
    failures: list[BaseException] = []

    def session() -> None:
        try:
            client = raw().login()
            client.execute()
            client.expect(94)
            client.disconnect()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=session) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert not failures, failures
    policy.wait_for("ConnectionLost", 40)
    assert len({request.context.connection_id for request in policy.requests("ConnectionLost")}) == 40
