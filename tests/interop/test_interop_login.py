"""Each client logs in by password and by key, runs a program and a shell, and moves 20 MB each way."""

from __future__ import annotations

from contextlib import suppress

import asyncssh
import paramiko
import pytest

from harness.keys import Key
from kit.client import Client, Job
from kit.house import House, digest, pattern
from kit.servers import Servers

BULK = 20 << 20


def test_password_and_exec(client: Client, servers: Servers, house: House) -> None:
    job = Job("greet 7")
    outcome, _ = servers.run(client, job)
    assert (outcome.status, outcome.out) == (7, b"to stdout\n"), outcome
    assert "to stderr\n" in outcome.err
    assert house.login(job.user) == ("password", "")


def test_wrong_key_is_refused(client: Client, servers: Servers, host_keys: dict[str, Key], house: House) -> None:
    """So that the other logins mean something: this key is nobody's."""
    job = Job("greet 0", key=host_keys["ed25519"])
    daemon, server = servers.get()
    outcome = None
    with suppress(AssertionError, asyncssh.PermissionDenied, paramiko.AuthenticationException):  # what each makes of it
        outcome = client.run(server, job)
    assert outcome is None or outcome.out == b""
    house.policy.wait_for("ValidatePublicKey", where=lambda request: request.context.user == job.user)
    assert not daemon.events("login", user=job.user)


def test_exec_by_key(client: Client, servers: Servers, house: House, user_key: Key) -> None:
    job = Job("greet 0", key=user_key)
    outcome, _ = servers.run(client, job)
    assert (outcome.status, outcome.out) == (0, b"to stdout\n"), outcome
    assert house.login(job.user) == ("publickey", "ssh-ed25519")


@pytest.mark.parametrize("pty", [False, True], ids=["pipe", "terminal"])
def test_shell(client: Client, servers: Servers, user_key: Key, pty: bool) -> None:
    outcome, _ = servers.run(client, Job(key=user_key, stdin=b"hello\nexit 3\n", pty=pty))
    assert outcome.status == 3, outcome
    assert b"parley> you said hello\r\nparley> " in outcome.out.replace(b"\r\r\n", b"\r\n"), outcome


def test_download(client: Client, servers: Servers, user_key: Key) -> None:
    outcome, _ = servers.run(client, Job(f"source {BULK}", key=user_key))
    assert (outcome.status, outcome.size, outcome.sha256) == (0, BULK, digest(BULK))


def test_upload(client: Client, servers: Servers, user_key: Key) -> None:
    outcome, _ = servers.run(client, Job("sink", key=user_key, stdin=pattern(BULK)))
    assert (outcome.status, outcome.out.decode()) == (0, f"{BULK} {digest(BULK)}\n"), outcome.out
