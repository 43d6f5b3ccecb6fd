"""Secrets leave no trace: passwords, responses, keys' proofs and tokens are in no log line, whatever the level and the outcome, and
passwords and responses in no memory that a core file would show."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Callable

import pytest

from harness.answers import (
    KBDINT,
    PASSWORD,
    begin,
    challenge,
    change_required,
    kbdint_house,
    kbdint_no,
    kbdint_ok,
    password_house,
    password_no,
    password_ok,
    say,
)
from harness.clients import OpenSsh
from harness.contract import pb
from harness.daemon import Daemon, is_sanitized
from harness.memory import memory_holds
from harness.policy import Policy, hang
from harness.rawclient import RawClient
from harness.wait import poll
from harness.wire import boolean, string

CANARY = "cAnArY-7f3a91"


def check(daemon: Daemon, *secrets: str) -> None:
    daemon.wait_event("closed")
    for secret in secrets:
        for form in (secret, secret.encode().hex(), re.escape(secret)):
            assert form.lower() not in daemon.log.lower()


@pytest.fixture(params=["text", "json"])
def talkative(request: pytest.FixtureRequest, policy: Policy, start_daemon: Callable[..., Daemon]) -> Daemon:
    daemon = start_daemon("--log-level", "debug", "--log-format", request.param, ready=False)
    daemon.wait_text("ready")
    return daemon


def port_of(daemon: Daemon) -> int:
    found = re.search(r"127\.0\.0\.1:(\d+)", daemon.wait_text("listening"))
    assert found
    return int(found[1])


def finish(daemon: Daemon, client: RawClient) -> None:
    client.close()
    daemon.wait_text("closed")
    assert CANARY.lower() not in daemon.log.lower()


@pytest.mark.parametrize("outcome", ["right", "wrong", "hung", "empty"])
def test_password(policy: Policy, talkative: Daemon, outcome: str) -> None:
    password_house(policy, password=CANARY if outcome == "right" else "else")
    if outcome in ("hung", "empty"):
        policy.on.ValidatePassword = hang if outcome == "hung" else b""
    client = RawClient(port_of(talkative))
    client.service()
    client.send(client.password_message("alice", CANARY))
    if outcome == "hung":
        policy.wait_for("ValidatePassword")
    else:
        client.verdict()
    finish(talkative, client)


def test_password_change(policy: Policy, talkative: Daemon) -> None:
    policy.on.BeginAuth = begin(PASSWORD)
    policy.on.ValidatePassword = pb.PasswordAnswer(change_required=pb.PasswordChange(prompt="new"))
    client = RawClient(port_of(talkative))
    client.service()
    client.try_password("alice", CANARY)
    client.ask(client.auth_message("alice", "password", boolean(True) + string(CANARY) + string(CANARY + "2")))
    finish(talkative, client)


def test_password_in_an_impossible_request(policy: Policy, talkative: Daemon) -> None:
    policy.on.BeginAuth = begin(PASSWORD)
    client = RawClient(port_of(talkative))
    client.service()
    client.try_password("alice", CANARY.encode() + b"\xff")
    client.send(client.auth_message("alice", "password", boolean(False) + string(CANARY) + b"more"))
    client.expect_end()
    finish(talkative, client)


@pytest.mark.parametrize("outcome", ["right", "wrong", "again", "hung", "empty", "count", "impossible", "left"])
@pytest.mark.parametrize("tied", [False, True])
def test_responses(policy: Policy, talkative: Daemon, outcome: str, tied: bool) -> None:
    kbdint_house(policy, CANARY if outcome == "right" else "else")
    policy.on.BeginAuth = begin(KBDINT, tie_kbdint_to_password=tied)
    answers = {"right": password_ok(), "hung": hang, "empty": b"", "again": change_required()}
    policy.on.ValidatePassword = answers.get(outcome, password_no())
    if outcome in ("again", "hung", "empty"):
        policy.on.ValidateKbdintResponse = answers[outcome] if outcome != "again" else challenge("Again: ")
    client = RawClient(port_of(talkative))
    client.service()
    client.try_kbdint()
    sent = {"count": [CANARY, CANARY], "impossible": [CANARY.encode() + b"\xff"]}.get(outcome, [CANARY])
    if outcome == "left":  # the dialogue is over when the response comes
        client.send_all(client.password_message("bob", "x"), client.responses_message(CANARY))
        client.until(51)
    else:
        client.send(client.responses_message(*sent))
    if outcome == "hung":
        policy.wait_for("ValidatePassword" if tied else "ValidateKbdintResponse")
    elif outcome != "left":
        client.verdict()
    finish(talkative, client)


# ---- memory: what a core file would hold


def secret_of(number: int) -> str:
    return f"cAnArY-{number}-b81c"


Attempt = Callable[[RawClient], object]
KEPT_NOWHERE: dict[str, tuple[str, Attempt]] = {
    "wrong password": ("wrong", lambda client: client.try_password("alice", secret_of(1))),
    "right password": ("right", lambda client: client.try_password("alice", secret_of(1))),
    "change": ("wrong", lambda client: client.ask(client.change_message("alice", secret_of(1), secret_of(2)))),
    "right change": ("right", lambda client: client.ask(client.change_message("alice", secret_of(1), secret_of(2)))),
    "wrong responses": ("wrong", lambda client: [client.try_kbdint(), client.respond(secret_of(1), secret_of(2))]),
    "right responses": ("right", lambda client: [client.try_kbdint(), client.respond(secret_of(1), secret_of(2))]),
    "tied": ("wrong", lambda client: [client.try_kbdint("tied"), client.respond(secret_of(1))]),
    "another count": ("wrong", lambda client: [client.try_kbdint(), client.respond(secret_of(1))]),
    "not offered": ("wrong", lambda client: [client.try_password("nobody", secret_of(1)), client.try_kbdint("nobody")]),
    "impossible": ("wrong", lambda client: client.try_password("alice", secret_of(1).encode() + b"\xff")),
    "pipelined": ("wrong", lambda client: [client.send_all(*[client.password_message("alice", secret_of(n)) for n in (1, 2)]), client.verdict(), client.verdict()]),
    "no answer": ("empty", lambda client: client.try_password("alice", secret_of(1))),
}  # fmt: skip


@pytest.mark.parametrize("what", KEPT_NOWHERE)
def test_nothing_is_left_in_memory(policy: Policy, daemon: Daemon, raw: Callable[..., RawClient], what: str) -> None:
    """While the connection lives on: neither libssh's, nor gRPC's, nor our own buffers remember."""
    if is_sanitized(daemon.pid):
        pytest.skip("a sanitizer build")
    good, attempt = KEPT_NOWHERE[what]
    methods = {"nobody": begin(), "tied": begin(KBDINT, tie_kbdint_to_password=True)}
    policy.on.BeginAuth = lambda request, _: methods.get(request.context.user, begin(PASSWORD, KBDINT))
    policy.on.ValidatePassword = policy.on.ChangePassword = {"right": password_ok(), "wrong": password_no(), "empty": b""}[good]
    policy.on.GetKbdintChallenge = challenge("One: ", "Two: ")
    policy.on.ValidateKbdintResponse = kbdint_ok() if good == "right" else kbdint_no()
    client = raw(version=b"SSH-2.0-Witness_7")
    client.service()
    try:
        assert memory_holds(daemon.pid, b"Witness_7"), "the search does not work"
    except PermissionError:
        pytest.skip("nobody but root may look into the daemon")
    attempt(client)
    for number in (1, 2):
        poll(lambda: not memory_holds(daemon.pid, secret_of(number).encode()), f"secret {number} gone from memory", every=0.2)


def test_session_data_and_environment_values(policy: Policy, talkative: Daemon) -> None:
    """What people type is nobody's business either."""
    policy.on.BeginAuth = pb.BeginAuthAnswer(requirement=pb.REQUIREMENT_NOT_REQUIRED)
    policy.on.SessionRequested = pb.SessionAnswer(stream=pb.StreamEndpoint())
    policy.on.Channel = say(CANARY.encode())
    client = RawClient(port_of(talkative)).login()
    number = client.open()
    client.request(number, "env", string("LANG") + string(CANARY))
    client.request(number, "shell")
    client.data(number, CANARY.encode())
    client.expect(94)
    finish(talkative, client)


def test_bearer_token(policy: Policy, work: Path, start_daemon: Callable[..., Daemon], connect_ssh: Callable[..., OpenSsh]) -> None:
    """It reaches the policy, and nothing else."""
    token = work / "token"
    token.write_text(CANARY + "\n")
    token.chmod(0o600)
    password_house(policy)
    daemon = start_daemon("--policy-token-file", str(token), "--log-level", "debug")
    assert connect_ssh(daemon).run("x", password="wonderland").status == 0
    assert {call.metadata.get("authorization") for call in policy.calls} == {f"Bearer {CANARY}"}
    check(daemon, CANARY, "wonderland")


def test_no_core_and_no_ptrace(policy: Policy, daemon: Daemon) -> None:
    """A crash must not write passwords to a disk (sanitizer builds are exempt: their leak check traces the process)."""
    limits = Path(f"/proc/{daemon.pid}/limits").read_text()
    found = re.search(r"Max core file size\s+(\d+)", limits)
    if is_sanitized(daemon.pid):
        pytest.skip("a sanitizer build")
    assert found and found[1] == "0", limits
