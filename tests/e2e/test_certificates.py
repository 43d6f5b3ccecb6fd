"""OpenSSH certificates (PROTOCOL.certkeys): the policy trusts an authority, the daemon checks what the authority wrote."""

from __future__ import annotations

import asyncio
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

import asyncssh
import paramiko
import pytest

from harness import wire
from harness.answers import PASSWORD, PUBLICKEY, begin, key_no, key_ok, partial, password_ok, say, serve
from harness.clients import OpenSsh
from harness.contract import pb
from harness.daemon import Daemon
from harness.keys import Key, certify, make_key
from harness.policy import Policy
from harness.rawclient import RawClient, UserKey
from harness.softkeys import PERMITS, VERIFIED, CertifiedKey, RsaKey, SecurityKey
from harness.softkeys import certify as forge
from harness.stream import ChannelStream
from harness.wait import PATIENCE_S
from harness.wire import string

Raw = Callable[..., RawClient]


@pytest.fixture(scope="module")
def ca(keys: Path) -> Key:
    return make_key(keys / "ca")


@pytest.fixture
def key(work: Path) -> Key:
    return make_key(work / "key")


def ca_house(policy: Policy, ca_blob: bytes, **fields: Any) -> None:
    """Whoever proves to have a key that this authority certified."""
    policy.on.BeginAuth = begin(PUBLICKEY)
    policy.on.ValidateCaKey = lambda request, _: key_ok(**fields) if request.ca.blob == ca_blob else key_no()
    serve(policy, say(b""))


# ---- OpenSSH on both sides of the file: ssh-keygen signs, ssh shows


def test_the_policy_sees_every_field(policy: Policy, daemon: Daemon, ssh: OpenSsh, ca: Key, key: Key) -> None:
    ca_house(policy, ca.blob)
    options = "-z 18446744073709551615 -I me@home -O source-address=127.0.0.0/8,::1/128 -O extension:x@example.org=y -O no-pty"
    certify(key, ca, *options.split(), principals="bob,alice", valid="20200101000000Z:20400101000000Z")
    result = ssh.run("x", key=key)
    assert result.status == 0, result
    probe, proven = policy.requests("ValidateCaKey")
    assert (probe.use.phase, proven.use.phase) == (pb.KEY_PHASE_PROBE, pb.KEY_PHASE_PROVEN)
    assert probe.context.question_id != proven.context.question_id
    for asked in (probe, proven):
        shown = asked.certificate
        assert (asked.ca.blob, asked.key.blob, asked.use.signature_algorithm) == (ca.blob, key.blob, "ssh-ed25519")
        assert (asked.ca.fingerprint, asked.ca.openssh, asked.key.openssh) == (ca.fingerprint, ca.public, key.public)
        assert (shown.type, shown.serial, shown.key_id) == ("user", 2**64 - 1, "me@home")
        assert list(shown.principals) == ["bob", "alice"]
        assert (shown.valid_after, shown.valid_before) == (1577836800, 2208988800)
        assert [(o.name, o.value) for o in shown.critical_options] == [("source-address", string("127.0.0.0/8,::1/128"))]
        extensions = {o.name: o.value for o in shown.extensions}
        assert extensions.pop("x@example.org") == string("y")
        assert extensions == {f"permit-{what}": b"" for what in ("X11-forwarding", "agent-forwarding", "port-forwarding", "user-rc")}
        assert shown.ca.blob == ca.blob and shown.blob == key.certificate
    completed = policy.wait_for("AuthCompleted")
    (factor,) = completed.context.passed
    assert factor.key.blob == key.blob and factor.certificate == proven.certificate
    assert completed.restrictions.no_pty and not completed.restrictions.no_x11_forwarding
    assert list(completed.restrictions.source_addresses.patterns) == ["127.0.0.0/8", "::1/128"]
    logged = daemon.wait_event("key_accepted")
    assert (logged["key_id"], logged["serial"], logged["ca"]) == ("me@home", str(2**64 - 1), ca.fingerprint)


@pytest.mark.parametrize("kind,bits,ca_kind", [("rsa", 2048, "ecdsa"), ("ecdsa", 256, "rsa"), ("ecdsa", 521, "ed25519")])
def test_kinds_of_keys_and_authorities(policy: Policy, ssh: OpenSsh, work: Path, kind: str, bits: int, ca_kind: str) -> None:
    authority, key = make_key(work / "ca", ca_kind), make_key(work / "key", kind, bits)
    ca_house(policy, authority.blob)
    assert ssh.run("x", key=certify(key, authority)).status == 0
    proven = policy.wait_for("ValidateCaKey", 2)
    assert proven.use.signature_algorithm == ("rsa-sha2-512" if kind == "rsa" else key.kind)


@dataclass
class Row:
    what: str
    options: str = ""
    ok: bool = False
    how: dict[str, Any] = field(default_factory=dict)  # of certify()
    user: str = "alice"


ROWS = [
    Row("plain", ok=True),
    Row("one of several names", how={"principals": "root,alice"}, ok=True),
    Row("another's", how={"principals": "root"}),
    Row("another case", how={"principals": "Alice"}),
    Row("nobody's", how={"principals": None}),
    Row("a pattern is a name", how={"principals": "*"}),
    Row("expired", how={"valid": "20200101:20210101"}),
    Row("not valid yet", how={"valid": "20390101:20400101"}),
    Row("within its time", how={"valid": "-1m:+5m"}, ok=True),
    Row("a host's", how={"host": True}),
    Row("this address", "-O source-address=127.0.0.1", ok=True),
    Row("these addresses", "-O source-address=10.0.0.0/8,127.0.0.0/8", ok=True),
    Row("another address", "-O source-address=10.0.0.0/8,::1"),
    Row("unknown critical option", "-O critical:x@example.org"),
    Row("unknown critical option with data", "-O critical:x@example.org=1"),
    Row("unknown extension", "-O extension:x@example.org=1", ok=True),
    Row("a PIN that a file has not", "-O verify-required"),
    Row("nothing permitted", "-O clear", ok=True),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_what_the_authority_wrote(policy: Policy, daemon: Daemon, ssh: OpenSsh, ca: Key, key: Key, row: Row) -> None:
    ca_house(policy, ca.blob)
    certify(key, ca, *shlex.split(row.options), **row.how)
    result = ssh.run("x", key=key, options=("-o", f"CertificateFile={key.path}-cert.pub", "-o", "IdentitiesOnly=yes"), user=row.user)
    assert (result.status == 0) == row.ok, f"{result}\n{daemon.log}"
    assert bool(daemon.events("login")) == row.ok
    if not row.ok:
        assert {ask.use.phase for ask in policy.requests("ValidateCaKey")} <= {pb.KEY_PHASE_PROBE, pb.KEY_PHASE_PROVEN}
        assert daemon.wait_event("auth_attempt", outcome="failure")


def test_authority_that_the_policy_does_not_know(policy: Policy, daemon: Daemon, ssh: OpenSsh, ca: Key, other_key: Key, key: Key) -> None:
    ca_house(policy, other_key.blob)
    assert ssh.run("x", key=certify(key, ca)).status == 255
    assert not daemon.events("login")


def test_forced_command_with_the_original_beside_it(policy: Policy, ssh: OpenSsh, ca: Key, key: Key) -> None:
    ca_house(policy, ca.blob)

    async def program(channel: ChannelStream) -> None:
        run = channel.session
        environment = {v.name: v.value for v in run.environment}
        await channel.write(run.exec.command + b"|" + environment.get(b"SSH_ORIGINAL_COMMAND", b"-"))
        await channel.exit(0)

    policy.on.Channel = program
    certify(key, ca, "-O", "force-command=/bin/only this")
    assert ssh.run("rm -rf /", key=key).out == b"/bin/only this|rm -rf /"
    assert ssh.run(None, key=key).out == b"/bin/only this|-"
    assert ssh.run("sftp", key=key, options=("-s",)).out == b"/bin/only this|sftp"
    first = policy.requests("ExecRequested")[0]
    assert (first.command, first.original_command) == (b"/bin/only this", b"rm -rf /")
    assert not {"ShellRequested", "SubsystemRequested"} & set(policy.names())


def test_two_different_forced_commands_refuse(policy: Policy, daemon: Daemon, ssh: OpenSsh, ca: Key, key: Key) -> None:
    certify(key, ca, "-O", "force-command=/bin/a")
    ca_house(policy, ca.blob, restrictions=pb.Restrictions(force_command=b"/bin/b"))
    assert ssh.run("x", key=key).status == 255
    assert not daemon.events("login")
    ca_house(policy, ca.blob, restrictions=pb.Restrictions(force_command=b"/bin/a"))
    assert ssh.run("x", key=key).status == 0


def test_no_terminal_where_none_is_permitted(policy: Policy, ssh: OpenSsh, ca: Key, key: Key) -> None:
    ca_house(policy, ca.blob)
    certify(key, ca, "-O", "clear")
    result = ssh.run("x", key=key, options=("-tt",))
    assert "PTY allocation request failed" in result.err, result
    assert "PtyRequested" not in policy.names()


# ---- other clients


def test_asyncssh(policy: Policy, daemon: Daemon, ca: Key, key: Key) -> None:
    ca_house(policy, ca.blob)
    certify(key, ca)

    async def main() -> Any:
        pair = (str(key.path), f"{key.path}-cert.pub")
        options = {"username": "alice", "known_hosts": None, "agent_path": None, "config": None, "client_keys": [pair]}
        async with asyncssh.connect("127.0.0.1", daemon.port, **options) as connection:
            return (await connection.run("x")).exit_status

    assert asyncio.run(asyncio.wait_for(main(), PATIENCE_S)) == 0
    assert policy.wait_for("AuthCompleted").context.passed[0].certificate.blob == key.certificate


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_certificates_that_asyncssh_makes(policy: Policy, daemon: Daemon, kind: str) -> None:
    """Their options are in another order than ssh-keygen's."""
    names = {"ed25519": "ssh-ed25519", "rsa": "ssh-rsa", "ecdsa": "ecdsa-sha2-nistp384"}
    authority, own = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key(names[kind])
    certificate = authority.generate_user_certificate(own, "made", principals=["alice"], source_address=["127.0.0.1"], touch_required=False)
    ca_house(policy, authority.public_data)

    async def main() -> Any:
        options = {"username": "alice", "known_hosts": None, "agent_path": None, "config": None, "client_keys": [(own, certificate)]}
        async with asyncssh.connect("127.0.0.1", daemon.port, **options) as connection:
            return (await connection.run("x")).exit_status

    assert asyncio.run(asyncio.wait_for(main(), PATIENCE_S)) == 0
    assert policy.wait_for("AuthCompleted").restrictions.touch_not_required


@pytest.mark.parametrize("kind,load", [("ed25519", paramiko.Ed25519Key), ("rsa", paramiko.RSAKey)])
def test_paramiko(policy: Policy, daemon: Daemon, work: Path, ca: Key, kind: str, load: Any) -> None:
    key = certify(make_key(work / "key", kind), ca)
    ca_house(policy, ca.blob)
    secret = load.from_private_key_file(str(key.path))
    secret.load_certificate(f"{key.path}-cert.pub")
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    client.connect("127.0.0.1", daemon.port, username="alice", pkey=secret, allow_agent=False, look_for_keys=False, timeout=PATIENCE_S)
    client.close()
    assert policy.wait_for("AuthCompleted").context.passed[0].certificate.blob == key.certificate


# ---- certificates that no program makes; "asked" says whether they are worth a question

OWN, CA, STRANGER = UserKey(), UserKey(), UserKey()
TEXT = string("/bin/date")
SHA1_CA = RsaKey(b"ssh-rsa")


def tampered(shown: CertifiedKey) -> CertifiedKey:
    return CertifiedKey(shown.key, shown.algorithm, shown.blob.replace(b"alice", b"admin"))


def critical(name: str, data: bytes) -> CertifiedKey:
    return forge(OWN, CA, critical=[(name, data)])


FORGED: dict[str, tuple[CertifiedKey, bool]] = {
    "signed by another than it says": (forge(OWN, STRANGER, ca_blob=CA.blob), False),
    "a name changed after it was signed": (tampered(forge(OWN, CA)), False),
    "signed by its own key": (forge(OWN, OWN, ca_blob=CA.blob), False),
    "authority is a certificate": (forge(OWN, STRANGER, ca_blob=forge(STRANGER, CA).blob), False),
    "neither a user's nor a host's": (forge(OWN, CA, kind=3), False),
    "bytes behind": (CertifiedKey(OWN, b"ssh-ed25519-cert-v01@openssh.com", forge(OWN, CA).blob + b"\0"), False),
    "cut": (CertifiedKey(OWN, b"ssh-ed25519-cert-v01@openssh.com", forge(OWN, CA).blob[:-1]), False),
    "an option twice": (forge(OWN, CA, critical=[("force-command", TEXT), ("force-command", TEXT)]), False),
    "an extension twice": (forge(OWN, CA, extensions=[*PERMITS, PERMITS[0]]), False),
    "a name with a NUL": (forge(OWN, CA, principals=[b"alice", b"alice\0x"]), False),
    "a key id that is no text": (forge(OWN, CA, key_id=b"\xff"), False),
    "257 names": (forge(OWN, CA, principals=[f"alice{i}" for i in range(256)] + ["alice"]), False),
    "no names": (forge(OWN, CA, principals=[]), True),
    "an empty name": (forge(OWN, CA, principals=[""]), True),
    "names in one": (forge(OWN, CA, principals=["alice,root"]), True),
    "empty address list": (critical("source-address", string("")), True),
    "address list without its string": (critical("source-address", b""), True),
    "no address": (critical("source-address", string("127.0.0.1,")), True),
    "a host name": (critical("source-address", string("127.0.0.1,localhost")), True),
    "a negation": (critical("source-address", string("127.0.0.0/8,!10.0.0.1")), True),
    "bits beyond the mask": (critical("source-address", string("127.0.0.1/8")), True),
    "a pattern": (critical("source-address", string("127.*")), True),
    "bytes behind the addresses": (critical("source-address", string("127.0.0.1") + b"\0"), True),
    "command that is no string": (critical("force-command", b"/bin/date"), True),
    "command with more behind": (critical("force-command", TEXT + TEXT), True),
    "command with a NUL": (critical("force-command", string(b"/bin/date\0--evil")), True),
    "a permit that is critical": (critical("permit-pty", b""), True),
    "a permit with data": (forge(OWN, CA, extensions=[("permit-pty", string("x"))]), True),
    "a PIN with data": (critical("verify-required", string("no")), True),
    "at the end of its time": (forge(OWN, CA, valid=(1, 2)), True),
    "time that is empty": (forge(OWN, CA, valid=(2**64 - 1, 2**64 - 1)), True),
}


@pytest.mark.parametrize("what", FORGED)
@pytest.mark.parametrize("phase", ["probe", "proven"])
def test_forged(policy: Policy, daemon: Daemon, raw: Raw, what: str, phase: str) -> None:
    shown, asked = FORGED[what]
    ca_house(policy, CA.blob)
    policy.on.ValidateCaKey = key_ok()  # to everything
    client = raw()
    client.service()
    user = "admin" if "changed" in what else "root" if what == "names in one" else "alice"
    answer = client.probe(user, shown) if phase == "probe" else client.try_key(user, shown)
    assert answer.type == wire.USERAUTH_FAILURE, daemon.log
    assert len(policy.requests("ValidateCaKey")) == asked
    assert "ValidatePublicKey" not in policy.names() and not daemon.events("login")


def test_the_forger_can_make_good_ones(policy: Policy, raw: Raw) -> None:
    """Or the test above would say nothing."""
    ca_house(policy, CA.blob)
    good = [forge(OWN, CA), critical("force-command", TEXT), critical("source-address", string("127.0.0.1,::1")), forge(OWN, CA, principals=["x", "alice"])]
    for shown in good:
        client = raw()
        client.service()
        assert client.probe("alice", shown).type == wire.PK_OK
        assert client.try_key("alice", shown).type == wire.USERAUTH_SUCCESS


@pytest.mark.parametrize("algorithm", [b"ssh-ed25519", b"ssh-rsa-cert-v01@openssh.com", b"ssh-ed25519-cert-v00@openssh.com", b""])
def test_requested_algorithm_is_the_certificates_own(policy: Policy, raw: Raw, algorithm: bytes) -> None:
    ca_house(policy, CA.blob)
    shown = forge(OWN, CA)
    shown.algorithm = algorithm
    client = raw()
    client.service()
    assert client.probe("alice", shown).type == wire.USERAUTH_FAILURE
    assert client.try_key("alice", shown).type == wire.USERAUTH_FAILURE
    assert "ValidateCaKey" not in policy.names()


def test_no_sha1(policy: Policy, daemon: Daemon, raw: Raw) -> None:
    """Neither under the certificate nor in the client's signature."""
    own = RsaKey(b"ssh-rsa")
    ca_house(policy, CA.blob)
    policy.on.ValidateCaKey = key_ok()
    modern = forge(own, CA)
    modern.algorithm = b"rsa-sha2-512-cert-v01@openssh.com"  # says so, and signs with SHA-1
    old = forge(own, CA)
    assert old.algorithm == b"ssh-rsa-cert-v01@openssh.com"
    client = raw()
    client.service()
    for shown in (forge(OWN, SHA1_CA), old, modern):
        assert client.try_key("alice", shown).type == wire.USERAUTH_FAILURE
    assert "ValidateCaKey" not in policy.names()
    own.algorithm = b"rsa-sha2-512"
    assert client.try_key("alice", modern).type == wire.USERAUTH_SUCCESS
    assert policy.wait_for("ValidateCaKey").use.signature_algorithm == "rsa-sha2-512"


def test_signature_of_another_key_than_the_certified(policy: Policy, raw: Raw) -> None:
    ca_house(policy, CA.blob)
    client = raw()
    client.service()
    assert client.try_key("alice", forge(OWN, CA), signer=STRANGER).type == wire.USERAUTH_FAILURE
    assert client.try_key("alice", forge(OWN, CA), signed_user="root").type == wire.USERAUTH_FAILURE
    assert "ValidateCaKey" not in policy.names()


def test_what_a_probed_certificate_restricts_is_dropped(policy: Policy, raw: Raw) -> None:
    probed = forge(UserKey(), CA, critical=[("force-command", TEXT)], extensions=[])
    ca_house(policy, CA.blob)
    client = raw()
    client.service()
    assert client.probe("alice", probed).type == wire.PK_OK
    assert client.try_key("alice", forge(OWN, CA)).type == wire.USERAUTH_SUCCESS
    completed = policy.wait_for("AuthCompleted")
    assert completed.restrictions.force_command == b"" and not completed.restrictions.no_pty


def test_what_a_certificate_restricts_outlives_the_second_factor(policy: Policy, raw: Raw) -> None:
    policy.on.BeginAuth = begin(PUBLICKEY, PASSWORD)
    policy.on.ValidateCaKey = pb.AuthAnswer(partial=partial(PASSWORD))
    policy.on.ValidatePassword = password_ok()
    client = raw()
    client.service()
    assert client.try_key("alice", forge(OWN, CA, critical=[("force-command", TEXT)])).type == wire.USERAUTH_FAILURE
    assert client.try_password("alice", "x").type == wire.USERAUTH_SUCCESS
    completed = policy.wait_for("AuthCompleted")
    assert completed.restrictions.force_command == b"/bin/date"
    assert completed.context.passed[0].certificate.key_id == "alice's"


# ---- security keys


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
@pytest.mark.parametrize(
    "flags,said,ok",
    [
        (1, [], True),
        (0, [], False),
        (0, [("no-touch-required", b"")], True),
        (VERIFIED, [("no-touch-required", b"")], True),
    ],
)
def test_touch(policy: Policy, raw: Raw, kind: str, flags: int, said: list[tuple[str, bytes]], ok: bool) -> None:
    own = SecurityKey(kind, flags)
    ca_house(policy, CA.blob)
    client = raw()
    client.service()
    answer = client.try_key("alice", forge(own, CA, extensions=[*PERMITS, *said]))
    assert answer.type == (wire.USERAUTH_SUCCESS if ok else wire.USERAUTH_FAILURE)
    proven = policy.wait_for("ValidateCaKey")
    assert (proven.use.user_present, proven.use.user_verified) == (flags & 1 != 0, flags & VERIFIED != 0)


@pytest.mark.parametrize("flags,ok", [(1, False), (1 | VERIFIED, True)])
def test_verify_required(policy: Policy, raw: Raw, flags: int, ok: bool) -> None:
    ca_house(policy, CA.blob)
    client = raw()
    client.service()
    answer = client.try_key("alice", forge(SecurityKey(flags=flags), CA, critical=[("verify-required", b"")]))
    assert answer.type == (wire.USERAUTH_SUCCESS if ok else wire.USERAUTH_FAILURE)
