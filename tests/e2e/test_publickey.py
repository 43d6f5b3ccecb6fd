"""Keys: an offered key is not a proven key, and a proof is one over this session, this name and this key."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import pytest

from harness.answers import PASSWORD, PUBLICKEY, begin, key_house, key_ok, partial, password_ok, say
from harness.clients import OpenSsh
from harness.contract import pb
from harness.daemon import Daemon
from harness.keys import Key, make_key
from harness.policy import Policy
from harness.rawclient import RawClient, UserKey
from harness.wire import Reader, boolean, string

Raw = Callable[..., RawClient]


def test_login_with_openssh(policy: Policy, daemon: Daemon, ssh: OpenSsh, user_key: Key) -> None:
    key_house(policy, user_key.blob)
    policy.on.Channel = say(b"in\n")
    result = ssh.run("x", key=user_key)
    assert (result.status, result.out) == (0, b"in\n"), result
    proven = policy.wait_for("ValidatePublicKey", where=lambda r: r.use.phase == pb.KEY_PHASE_PROVEN)
    assert proven.key.algorithm == "ssh-ed25519" and proven.key.blob == user_key.blob
    assert proven.key.fingerprint == user_key.fingerprint
    assert proven.key.openssh == user_key.public
    assert (proven.key.bits, proven.use.signature_algorithm) == (256, "ssh-ed25519")
    passed = policy.wait_for("AuthCompleted").context.passed
    assert [(factor.method, factor.key.blob) for factor in passed] == [(PUBLICKEY, user_key.blob)]
    daemon.wait_event("login")


@pytest.mark.parametrize("kind,bits", [("rsa", 2048), ("rsa", 3072), ("ecdsa", 256), ("ecdsa", 384), ("ecdsa", 521)])
def test_other_kinds_of_keys(policy: Policy, ssh: OpenSsh, work: Path, kind: str, bits: int) -> None:
    key = make_key(work / "key", kind, bits)
    key_house(policy, key.blob)
    assert ssh.run("x", key=key).status == 0
    proven = policy.wait_for("ValidatePublicKey", where=lambda r: r.use.phase == pb.KEY_PHASE_PROVEN)
    assert proven.key.algorithm == key.kind and proven.key.bits == bits
    assert proven.use.signature_algorithm == ("rsa-sha2-512" if kind == "rsa" else key.kind)


def test_weak_rsa_is_refused_unasked(policy: Policy, raw: Raw, work: Path) -> None:
    key = make_key(work / "key", "rsa", 1024)
    key_house(policy, key.blob)
    client = raw()
    client.service()
    assert client.ask(client.auth_message("alice", "publickey", boolean(False) + string("rsa-sha2-256") + string(key.blob))).type == 51
    assert "ValidatePublicKey" not in policy.names()


@pytest.mark.parametrize("algorithm", ["ssh-rsa", "ssh-dss", "ssh-ed25519", "rsa-sha2-1", ""])
def test_algorithms_that_we_do_not_sign_with_are_refused_unasked(policy: Policy, raw: Raw, work: Path, algorithm: str) -> None:
    key = make_key(work / "key", "rsa", 2048)
    key_house(policy, key.blob)
    client = raw()
    client.service()
    assert client.ask(client.auth_message("alice", "publickey", boolean(False) + string(algorithm) + string(key.blob))).type == 51
    assert "ValidatePublicKey" not in policy.names()


def test_wrong_key_is_refused(policy: Policy, daemon: Daemon, ssh: OpenSsh, user_key: Key, other_key: Key) -> None:
    key_house(policy, user_key.blob)
    result = ssh.run("x", key=other_key)
    assert result.status == 255 and "Permission denied (publickey)" in result.err, result
    assert not daemon.events("login")


def test_an_answer_to_a_probe_leaves_nothing_behind(policy: Policy, raw: Raw) -> None:
    """Neither restrictions nor state nor a factor."""
    probed, used = UserKey(), UserKey()
    restrictions = pb.Restrictions(force_command=b"rm -rf /", no_pty=True)

    def answer(request, _context):
        if request.use.phase == pb.KEY_PHASE_PROBE:
            return pb.AuthAnswer(common=pb.Common(state=b"from a probe"), allow=pb.Allow(restrictions=restrictions, expires_in_s=0))
        return key_ok()

    policy.on.BeginAuth = begin(PUBLICKEY)
    policy.on.ValidatePublicKey = answer
    policy.on.SessionRequested = pb.SessionAnswer(stream=pb.StreamEndpoint())
    policy.on.Channel = say(b"")
    client = raw()
    client.service()
    assert client.probe("alice", probed).type == 60
    assert client.try_key("alice", used).type == 52
    completed = policy.wait_for("AuthCompleted")
    assert completed.context.state == b"" and not completed.restrictions.force_command and not completed.restrictions.no_pty
    assert [factor.key.blob for factor in completed.context.passed] == [used.blob]
    client.execute("date")
    assert policy.wait_stream().session.exec.command == b"date"


# ---- signatures that prove nothing


@pytest.fixture
def key(policy: Policy) -> UserKey:
    key = UserKey()
    key_house(policy, key.blob)
    return key


def expect_refused(policy: Policy, answer: Reader) -> None:
    assert answer.type == 51
    assert "ValidatePublicKey" not in policy.names(), "a bad signature is not worth a question"


def test_signature_over_another_session(policy: Policy, raw: Raw, key: UserKey) -> None:
    other = raw()
    client = raw()
    client.service()
    expect_refused(policy, client.try_key("alice", key, session_id=other.session_id))


def test_signature_replayed_in_another_session(policy: Policy, raw: Raw, key: UserKey) -> None:
    first = raw()
    first.service()
    message = first.key_message("alice", key)
    assert first.ask(message).type == 52
    second = raw()
    second.service()
    before = len(policy.requests("ValidatePublicKey"))
    assert second.ask(message).type == 51
    assert len(policy.requests("ValidatePublicKey")) == before


def test_signature_for_another_name(policy: Policy, raw: Raw, key: UserKey) -> None:
    client = raw()
    client.service()
    expect_refused(policy, client.try_key("root", key, signed_user="alice"))


def test_signature_of_another_key(policy: Policy, raw: Raw, key: UserKey) -> None:
    client = raw()
    client.service()
    expect_refused(policy, client.try_key("alice", key, signer=UserKey()))


@pytest.mark.parametrize(
    "signature",
    [b"", b"\0", string("ssh-ed25519"), string("ssh-ed25519") + string(b"\0" * 64), string("ssh-rsa") + string(b"\0" * 64), b"\xff" * 100],
    ids=["empty", "one-byte", "no-blob", "zeros", "other-type", "junk"],
)
def test_broken_signatures(policy: Policy, raw: Raw, key: UserKey, signature: bytes) -> None:
    client = raw()
    client.service()
    rest = boolean(True) + string(key.algorithm) + string(key.blob) + string(signature)
    expect_refused(policy, client.ask(client.auth_message("alice", "publickey", rest)))


@pytest.mark.parametrize("blob", [b"", b"\0\0\0\7ssh-rsa", string("ssh-ed25519"), string("ssh-ed25519") + string(b"x" * 31), b"\xff" * 51])
def test_broken_keys(policy: Policy, raw: Raw, blob: bytes) -> None:
    policy.on.BeginAuth = begin(PUBLICKEY)
    policy.on.ValidatePublicKey = key_ok()
    client = raw()
    client.service()
    expect_refused(policy, client.ask(client.auth_message("alice", "publickey", boolean(False) + string("ssh-ed25519") + string(blob))))


def test_hostbound_request_names_this_host(policy: Policy, raw: Raw, key: UserKey) -> None:
    """publickey-hostbound-v00@openssh.com: the signature holds for the host whose key is in it only."""

    def request(client: RawClient, host_key: bytes) -> bytes:
        method = "publickey-hostbound-v00@openssh.com"
        rest = boolean(True) + string(key.algorithm) + string(key.blob) + string(host_key)
        signed = string(client.session_id) + client.auth_message("alice", method, rest)
        return client.auth_message("alice", method, rest + string(key.sign(signed)))

    client = raw()
    client.service()
    expect_refused(policy, client.ask(request(client, UserKey().blob)))
    assert client.ask(request(client, client.host_key)).type == 52


# ---- two factors


def test_key_then_password(policy: Policy, ssh: OpenSsh, user_key: Key) -> None:
    key_house(policy, user_key.blob)
    policy.on.BeginAuth = begin(PUBLICKEY, PASSWORD)
    policy.on.ValidatePublicKey = pb.AuthAnswer(partial=partial(PASSWORD))
    policy.on.ValidatePassword = password_ok()
    result = ssh.run("x", key=user_key, password="wonderland")
    assert result.status == 0, result
    asked = policy.wait_for("ValidatePassword").context
    assert [factor.method for factor in asked.passed] == [PUBLICKEY]
    completed = policy.wait_for("AuthCompleted").context
    assert [factor.method for factor in completed.passed] == [PUBLICKEY, PASSWORD]
