"""BeginAuthAnswer.revoked_keys: what ssh-keygen -k writes, and plain lists. Nobody is asked about a revoked key."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, Callable

import pytest

from harness import wire
from harness.answers import PUBLICKEY, begin, key_ok, say, serve
from harness.clients import OpenSsh
from harness.daemon import Daemon
from harness.keys import Key, certify, make_key
from harness.policy import Policy
from harness.rawclient import RawClient, UserKey

Raw = Callable[..., RawClient]


@pytest.fixture(scope="module")
def ca(keys: Path) -> Key:
    return make_key(keys / "revoking-ca")


def krl(work: Path, *args: str, spec: str | None = None) -> bytes:
    """A key revocation list of these files, or of a specification (ssh-keygen(1), KEY REVOCATION LISTS)."""
    if spec is not None:
        (work / "spec").write_text(spec + "\n")
        args = (*args, str(work / "spec"))
    path = work / "krl"
    subprocess.run(["ssh-keygen", "-q", "-k", "-f", str(path), *args], check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return path.read_bytes()


def house(policy: Policy, revoked: bytes, **fields: Any) -> None:
    """Whoever is not revoked."""
    policy.on.BeginAuth = begin(PUBLICKEY, revoked_keys=revoked, **fields)
    policy.on.ValidatePublicKey = policy.on.ValidateCaKey = key_ok()
    serve(policy, say(b""))


def test_plain_keys(policy: Policy, daemon: Daemon, ssh: OpenSsh, work: Path, user_key: Key, other_key: Key) -> None:
    for revoked in (krl(work, f"{user_key.path}.pub"), krl(work, spec=f"sha256: {user_key.public}"), f"# lost\n{user_key.public} alice's\n".encode()):
        house(policy, revoked)
        before = policy.names().count("ValidatePublicKey")
        assert ssh.run("x", key=user_key).status == 255
        assert policy.names().count("ValidatePublicKey") == before
        assert ssh.run("x", key=other_key).status == 0
    assert "revoked" in daemon.wait_event("auth_attempt", outcome="failure")["why"]


def test_a_revoked_key_outdoes_authorized_keys(policy: Policy, ssh: OpenSsh, work: Path, user_key: Key, other_key: Key) -> None:
    house(policy, krl(work, f"{user_key.path}.pub"), authorized_keys=f"{user_key.public}\n{other_key.public}\n".encode())
    assert ssh.run("x", key=user_key).status == 255
    assert ssh.run("x", key=other_key).status == 0


@pytest.mark.parametrize(
    "spec,revoked",
    [
        ("serial: 7", True),
        ("serial: 5-9", True),
        ("serial: 8", False),
        ("id: it is mine", True),
        ("id: it is", False),
        ("key: {key}", True),
        ("sha1: {key}", True),
        ("key: {ca}", True),
        ("sha256: {other}", False),
    ],
)
def test_certificates(policy: Policy, ssh: OpenSsh, work: Path, ca: Key, other_key: Key, spec: str, revoked: bool) -> None:
    key = certify(make_key(work / "key"), ca, "-z", "7", "-I", "it is mine")
    spec = spec.format(key=key.public, ca=ca.public, other=other_key.public)
    house(policy, krl(work, "-s", f"{ca.path}.pub", spec=spec), authorized_keys=f"cert-authority {ca.public}\n".encode())
    # The plain key is worth a question where it is not revoked itself: only the certificate may log in here.
    policy.on.ValidatePublicKey = None
    result = ssh.run("x", key=key)
    assert (result.status == 255) == revoked, result
    assert "ValidateCaKey" not in policy.names()


def test_another_authoritys_serial(policy: Policy, ssh: OpenSsh, work: Path, ca: Key, other_key: Key) -> None:
    key = certify(make_key(work / "key"), ca, "-z", "7")
    house(policy, krl(work, "-s", f"{other_key.path}.pub", spec="serial: 7"))
    assert ssh.run("x", key=key).status == 0


@pytest.mark.parametrize("damage", ["cut", "magic", "signed", "empty line", "prose"])
def test_what_cannot_be_read_revokes_every_key(policy: Policy, daemon: Daemon, raw: Raw, work: Path, user_key: Key, damage: str) -> None:
    good = krl(work, f"{user_key.path}.pub")
    damaged = {
        "cut": good[:-1],
        "magic": b"SSHKRL\n\1" + good[8:],
        "signed": good + b"\4" + wire.string(b"") + wire.string(b""),
        "empty line": b"ssh-ed25519\n",
        "prose": b"please revoke alice's key\n",
    }[damage]
    house(policy, damaged)
    client = raw()
    client.service()
    key = UserKey()
    assert client.probe("alice", key).type == wire.USERAUTH_FAILURE
    assert client.try_key("alice", key).type == wire.USERAUTH_FAILURE
    assert "ValidatePublicKey" not in policy.names()
    daemon.wait_event("all_keys_revoked")
