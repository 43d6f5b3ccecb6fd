"""env requests: harmless ones by default, any by the policy's word, in the order in which they came."""

from __future__ import annotations

from typing import Any

import pytest

from harness.answers import deny_grant, grant, open_house, say
from harness.clients import OpenSsh
from harness.contract import pb
from harness.policy import Policy
from harness.wire import string


def variables(policy: Policy) -> list[tuple[bytes, bytes]]:
    return [(var.name, var.value) for var in policy.wait_stream().session.environment]


def test_defaults_with_openssh(policy: Policy, ssh: OpenSsh) -> None:
    open_house(policy, say(b""))
    env = {"LANG": "de_DE.UTF-8", "LC_ALL": "C", "LC_TIME": "en_GB", "SECRET": "x", "BASH_ENV": "/evil", "LANGUAGE": "de"}
    options = ("-o", "SendEnv=LANG LC_* SECRET BASH_ENV LANGUAGE")
    assert ssh.run("x", env=env, options=options).status == 0
    assert dict(variables(policy)) == {b"LANG": b"de_DE.UTF-8", b"LC_ALL": b"C", b"LC_TIME": b"en_GB"}


@pytest.mark.parametrize(
    "name,allowed",
    [
        ("TERM", True),
        ("LANG", True),
        ("LC_CTYPE", True),
        ("LANGUAGE", False),
        ("LC", False),
        ("lang", False),
        ("TERMINFO", False),
        ("LD_PRELOAD", False),
        ("BASH_ENV", False),
        ("PATH", False),
        ("SSH_ORIGINAL_COMMAND", False),
        ("", False),
    ],
)
def test_default_rule(policy: Policy, raw, name: str, allowed: bool) -> None:
    open_house(policy, say(b""))
    client = raw().login()
    number = client.open()
    assert client.request(number, "env", string(name) + string("v")) is allowed
    assert client.request(number, "exec", string("x"))
    assert variables(policy) == ([(name.encode(), b"v")] if allowed else [])


def test_the_policy_decides_each(policy: Policy, raw) -> None:
    open_house(policy, say(b""))
    policy.on.EnvRequested = lambda request, _: grant() if request.variable.name.startswith(b"GIT_") else deny_grant()
    client = raw().login()
    number = client.open()
    assert client.request(number, "env", string("GIT_PROTOCOL") + string("version=2"))
    assert not client.request(number, "env", string("LANG") + string("C"))
    assert client.request(number, "env", string("GIT_TRACE") + string(b"\xff\xfe"))
    assert client.request(number, "exec", string("x"))
    assert variables(policy) == [(b"GIT_PROTOCOL", b"version=2"), (b"GIT_TRACE", b"\xff\xfe")]
    asked = [(request.variable.name, request.channel) for request in policy.requests("EnvRequested")]
    assert asked == [(b"GIT_PROTOCOL", number), (b"LANG", number), (b"GIT_TRACE", number)]


@pytest.mark.parametrize("name,value", [(b"A=B", b"v"), (b"A\0B", b"v"), (b"A", b"v\0w"), (b"", b"v")])
def test_variables_that_no_program_can_have_are_refused(policy: Policy, raw, name: bytes, value: bytes) -> None:
    open_house(policy, say(b""))
    policy.on.EnvRequested = grant()
    client = raw().login()
    number = client.open()
    assert not client.request(number, "env", string(name) + string(value))


def test_environment_is_bounded(policy: Policy, raw) -> None:
    """128 KiB in all; what is beyond is refused, what came before stays."""
    open_house(policy, say(b""))
    policy.on.EnvRequested = grant()
    client = raw().login()
    number = client.open()
    kept = sum(client.request(number, "env", string(f"V{i}") + string(b"x" * 20_000)) for i in range(10))
    assert 5 <= kept <= 6
    assert client.request(number, "exec", string("x"))
    assert len(variables(policy)) == kept


def test_at_most_256_variables(policy: Policy, raw) -> None:
    open_house(policy, say(b""))
    policy.on.EnvRequested = grant()
    client = raw().login()
    number = client.open()
    answers = [client.request(number, "env", string(f"V{i}") + string("x")) for i in range(260)]
    assert answers == [True] * 256 + [False] * 4


def test_after_the_program_started_it_is_too_late(policy: Policy, raw) -> None:
    async def program(channel: Any) -> None:
        await channel.drain()

    open_house(policy, program)
    client = raw().login()
    number = client.execute()
    assert not client.request(number, "env", string("LANG") + string("C"))
    assert variables(policy) == []


def test_the_grants_own_variables_come_first_and_stay(policy: Policy, raw) -> None:
    """Restrictions.environment of the login cannot be changed by the client."""
    open_house(policy, say(b""))
    restrictions = pb.Restrictions(environment=[pb.EnvVar(name=b"ROLE", value=b"guest")])
    policy.on.AuthCompleted = pb.AuthCompletedAnswer(allow=pb.Allow(restrictions=restrictions))
    policy.on.EnvRequested = grant()
    client = raw().login()
    number = client.open()
    assert not client.request(number, "env", string("ROLE") + string("admin"))
    assert client.request(number, "env", string("LANG") + string("C"))
    assert client.request(number, "exec", string("x"))
    assert variables(policy) == [(b"ROLE", b"guest"), (b"LANG", b"C")]
