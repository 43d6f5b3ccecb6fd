"""X11 and agent forwarding as the policy grants it, told to the one who plays the program over a stream."""

from __future__ import annotations

from typing import Callable

import pytest

from harness.answers import allow, cat, deny_grant, grant, not_required, open_house, say
from harness.clients import OpenSsh
from harness.contract import pb
from harness.daemon import Daemon
from harness.policy import Policy
from harness.rawclient import RawClient
from harness.wire import boolean, string, u32

Raw = Callable[..., RawClient]

COOKIE = "00112233445566778899aabbccddeeff"
X11 = boolean(True) + string("MIT-MAGIC-COOKIE-1") + string(COOKIE) + u32(0)
# OpenSSH makes a cookie up where xauth has none
FAKE_X11 = ("-Y", "-o", "XAuthLocation=/nonexistent", "-o", "ExitOnForwardFailure=no")


def test_openssh_is_granted_both(policy: Policy, ssh: OpenSsh) -> None:
    open_house(policy, say(b"ok"))
    policy.on.X11Requested = grant()
    policy.on.AgentRequested = grant()
    result = ssh.run("x", options=(*FAKE_X11, "-A", "-o", "IdentityAgent=/nonexistent"), env={"DISPLAY": "127.0.0.1:7.3"})
    assert result.out == b"ok" and "request failed" not in result.err, result
    asked = policy.wait_for("X11Requested").x11
    assert asked.auth_protocol == "MIT-MAGIC-COOKIE-1" and len(bytes.fromhex(asked.auth_cookie)) == 16
    assert asked.screen == 3 and not asked.single_connection
    session = policy.wait_stream().session
    assert session.x11 == asked


def test_defaults_refuse(policy: Policy, ssh: OpenSsh) -> None:
    open_house(policy, say(b"ok"))
    result = ssh.run("x", options=FAKE_X11, env={"DISPLAY": "127.0.0.1:7"})
    assert result.out == b"ok" and "X11 forwarding request failed" in result.err, result
    assert not policy.wait_stream().session.HasField("x11")


@pytest.mark.parametrize("yes", [True, False])
def test_the_answer_is_the_reply(policy: Policy, daemon: Daemon, raw: Raw, yes: bool) -> None:
    open_house(policy, cat)
    policy.on.X11Requested = policy.on.AgentRequested = grant() if yes else deny_grant()
    client = raw().login()
    number = client.open()
    assert client.request(number, "x11-req", X11) == yes
    assert client.request(number, "auth-agent-req@openssh.com") == yes
    assert client.request(number, "shell")
    session = policy.wait_stream().session
    assert (session.HasField("x11"), session.agent_granted) == (yes, yes)
    if yes:
        assert session.x11.single_connection and session.x11.auth_cookie == COOKIE
    assert daemon.wait_event("forward", what="agent")["outcome"] == ("granted" if yes else "refused")
    assert COOKIE not in daemon.log


@pytest.mark.parametrize("flag, request_name", [("no_x11_forwarding", "x11-req"), ("no_agent_forwarding", "auth-agent-req@openssh.com")])
def test_restrictions_refuse_without_a_question(policy: Policy, raw: Raw, flag: str, request_name: str) -> None:
    open_house(policy, cat)
    policy.on.BeginAuth = not_required()
    policy.on.X11Requested = policy.on.AgentRequested = grant()
    policy.on.ConnectionMade = pb.ConnectionMadeAnswer(allow=allow(restrictions=pb.Restrictions(**{flag: True})))
    client = raw().login()
    number = client.open()
    assert not client.request(number, request_name, X11 if request_name == "x11-req" else b"")
    assert not {"X11Requested", "AgentRequested"} & set(policy.names())


def test_only_sessions_have_them(policy: Policy, raw: Raw) -> None:
    """A second session of the same connection has nothing of what the first was granted."""
    open_house(policy, cat)
    policy.on.X11Requested = policy.on.AgentRequested = grant()
    client = raw().login()
    first = client.open(channel=0)
    assert client.request(first, "x11-req", X11) and client.request(first, "auth-agent-req@openssh.com")
    second = client.open(channel=1)
    assert client.request(second, "shell")
    session = policy.wait_stream().session
    assert not session.HasField("x11") and not session.agent_granted
