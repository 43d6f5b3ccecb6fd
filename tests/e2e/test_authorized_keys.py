"""BeginAuthAnswer.authorized_keys: the daemon itself compares and enforces, and asks about what is not in it."""

from __future__ import annotations

import base64
from typing import Any, Callable

from harness import wire
from harness.answers import PUBLICKEY, begin, say, serve
from harness.clients import OpenSsh
from harness.daemon import Daemon
from harness.keys import Key
from harness.policy import Policy
from harness.rawclient import RawClient, UserKey
from harness.stream import ChannelStream

Raw = Callable[..., RawClient]


def listed(policy: Policy, *lines: str, **fields: Any) -> None:
    policy.on.BeginAuth = begin(PUBLICKEY, authorized_keys="\n".join(lines).encode(), **fields)
    serve(policy, say(b""))


def test_login_costs_two_questions(policy: Policy, daemon: Daemon, ssh: OpenSsh, user_key: Key) -> None:
    listed(policy, "# people", f"{user_key.public} alice@home")
    assert ssh.run("x", key=user_key).status == 0
    assert policy.names()[:3] == ["ConnectionMade", "BeginAuth", "AuthCompleted"]
    (factor,) = policy.wait_for("AuthCompleted").context.passed
    assert factor.key.blob == user_key.blob and factor.key.fingerprint == user_key.fingerprint
    assert daemon.wait_event("key_accepted")["line"] == "2"


def test_options_are_enforced(policy: Policy, ssh: OpenSsh, user_key: Key) -> None:
    async def program(channel: ChannelStream) -> None:
        run = channel.session
        environment = {v.name: v.value for v in run.environment}
        await channel.write(b"|".join([run.exec.command, environment[b"SSH_ORIGINAL_COMMAND"], environment[b"WHO"]]))
        await channel.exit(0)

    listed(policy, f'restrict,from="127.0.0.0/8",command="say \\"hi\\"",environment="WHO=alice" {user_key.public}')
    policy.on.Channel = program
    assert ssh.run("x y", key=user_key).out == b'say "hi"|x y|alice'
    assert "PTY allocation request failed" in ssh.run("x", key=user_key, options=("-tt",)).err
    sum = policy.wait_for("AuthCompleted").restrictions
    assert sum.no_pty and sum.no_port_forwarding and sum.no_agent_forwarding and sum.no_x11_forwarding


def test_lines_that_accept_nothing_are_logged_with_their_number(policy: Policy, daemon: Daemon, ssh: OpenSsh, user_key: Key, other_key: Key) -> None:
    listed(policy, "ssh-ed25519 AAAA", f"no-such-option {user_key.public}", f'from="10.0.0.1" {user_key.public}', f"{other_key.public}")
    assert ssh.run("x", key=user_key).status == 255
    assert [line["line"] for line in daemon.events("authorized_keys_line")] == ["1", "2"]
    assert ssh.run("x", key=other_key).status == 0


def test_a_list_of_one_mebibyte(policy: Policy, raw: Raw) -> None:
    key = UserKey()
    line = f"ssh-ed25519 {base64.b64encode(key.blob).decode()}\n"
    filler = "".join(f"ssh-ed25519 {base64.b64encode(UserKey().blob).decode()} filler-{i}\n" for i in range(200))
    text = (filler * 100)[: (1 << 20) - len(line) - 1]
    text = text[: text.rindex("\n") + 1] + line
    policy.on.BeginAuth = begin(PUBLICKEY, authorized_keys=text.encode())
    client = raw()
    client.service()
    assert client.probe("alice", key).type == wire.PK_OK
    assert client.try_key("alice", key).type == wire.USERAUTH_SUCCESS
    assert "ValidatePublicKey" not in policy.names()


def test_a_list_that_is_too_long_accepts_nobody(policy: Policy, daemon: Daemon, raw: Raw) -> None:
    key = UserKey()
    line = f"ssh-ed25519 {base64.b64encode(key.blob).decode()}\n"
    policy.on.BeginAuth = begin(PUBLICKEY, authorized_keys=(line + "#" * (1 << 20)).encode())
    client = raw()
    client.service()
    assert client.try_key("alice", key).type == wire.USERAUTH_FAILURE
    assert not daemon.events("login")


def test_what_is_enforced_later_is_carried(policy: Policy, ssh: OpenSsh, user_key: Key) -> None:
    options = 'permitopen="db:5432",permitopen="[::1]:*",permitlisten="8080",permitlisten="localhost:22",tunnel="3",no-touch-required,no-user-rc,environment="A=1",environment="A=2"'
    listed(policy, f"{options} {user_key.public}")
    assert ssh.run("x", key=user_key).status == 0
    sum = policy.wait_for("AuthCompleted").restrictions
    assert list(sum.permit_open.patterns) == ["db:5432", "[::1]:*"]
    assert list(sum.permit_listen.patterns) == ["*:8080", "localhost:22"]
    assert sum.no_tunnel and sum.no_user_rc and sum.touch_not_required and not sum.no_port_forwarding
    assert [(v.name, v.value) for v in sum.environment] == [(b"A", b"1")]


def test_the_first_line_that_fits_counts(policy: Policy, daemon: Daemon, ssh: OpenSsh, user_key: Key) -> None:
    lines = [
        f'from="*,!127.0.0.*" {user_key.public}',
        f'expiry-time="20200101" {user_key.public}',
        f"cert-authority {user_key.public}",
        f'from="host.example.org,127.0.0.0/8",expiry-time="20990101",no-pty {user_key.public}',
        user_key.public,
    ]
    listed(policy, *lines)
    assert ssh.run("x", key=user_key).status == 0
    assert daemon.wait_event("key_accepted")["line"] == "4"
    assert policy.wait_for("AuthCompleted").restrictions.no_pty
    assert "ValidatePublicKey" not in policy.names()
