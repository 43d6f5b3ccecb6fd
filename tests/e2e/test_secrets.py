"""Secrets leave no trace: passwords, keys' proofs and tokens are in no log line, whatever the level and the outcome."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Callable

import pytest

from harness.answers import PASSWORD, begin, password_house, say
from harness.clients import OpenSsh
from harness.contract import pb
from harness.daemon import Daemon, is_sanitized
from harness.policy import Policy, hang
from harness.rawclient import RawClient
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
