"""What others fell for, by number: probes and proofs, changed names, half logins, certificates, grants that are over."""

from __future__ import annotations

import base64
import mmap
import struct
import subprocess
import time
from pathlib import Path
from typing import Any, Callable

import pytest

from harness import wire
from harness.answers import KBDINT, PASSWORD, PUBLICKEY, begin, cat, key_no, key_ok, methods, partial, password_no, password_ok, say, serve
from harness.contract import pb
from harness.daemon import Daemon
from harness.policy import Policy
from harness.rawclient import RawClient, UserKey
from harness.softkeys import CertifiedKey, certify
from harness.wire import said, string

Raw = Callable[..., RawClient]
StartDaemon = Callable[..., Daemon]

CA = UserKey()
LOGGED_IN = {"AuthCompleted", "SessionRequested", "ExecRequested", "Channel"}


def line(key: Any, options: str = "") -> bytes:
    """Of authorized_keys."""
    kind = key.blob[4 : 4 + int.from_bytes(key.blob[:4], "big")].decode()
    return f"{options} {kind} {base64.b64encode(key.blob).decode()}\n".lstrip().encode()


def how_trusted(policy: Policy, how: str, *names: int, **fields: Any) -> Callable[[], Any]:
    """Every key is good: to the policy, by a list, or as a certificate. Makes keys that are."""
    keys = [UserKey() for _ in range(4)]
    left = iter(keys)
    if how == "listed":
        fields["authorized_keys"] = b"".join(map(line, keys))
    if how == "listed authority":
        fields["authorized_keys"] = line(CA, "cert-authority")
    policy.on.BeginAuth = begin(*(names or (PUBLICKEY,)), **fields)
    if not how.startswith("listed"):
        policy.on.ValidatePublicKey = policy.on.ValidateCaKey = key_ok()
    serve(policy, say(b""))
    return lambda: next(left) if how in ("policy", "listed") else certify(next(left), CA)


HOW = ["policy", "listed", "authority", "listed authority"]


# ---- T1 to T3: an offered key is not a proven key


@pytest.mark.parametrize("how", HOW)
def test_t01_a_probe_logs_nobody_in(policy: Policy, daemon: Daemon, raw: Raw, how: str) -> None:
    key = how_trusted(policy, how)()
    client = raw()
    client.service()
    ok = client.probe("alice", key)
    assert (ok.type, ok.string(), ok.string()) == (wire.PK_OK, key.algorithm, key.blob)
    client.send(client.open_message())
    assert client.expect_end()
    daemon.wait_event("closed")
    assert not daemon.events("login") and not daemon.events("key_accepted") and not daemon.events("auth_attempt", outcome="success")
    assert not LOGGED_IN & set(policy.names())


@pytest.mark.parametrize("flags", [b"\0", b"\2", b"\xff"])
def test_t01_no_signature_is_no_proof(policy: Policy, daemon: Daemon, raw: Raw, flags: bytes) -> None:
    """Whatever the flag in front of it says."""
    key = how_trusted(policy, "policy")()
    client = raw()
    client.service()
    message = client.auth_message("alice", "publickey", flags + string(key.algorithm) + string(key.blob))
    if flags == b"\0":
        assert client.ask(message).type == wire.PK_OK
    else:
        client.send(message)
        assert client.expect_end()
    assert not daemon.events("login") and "AuthCompleted" not in policy.names()


@pytest.mark.parametrize("how", HOW)
def test_t02_identity_is_the_key_that_signed(policy: Policy, raw: Raw, how: str) -> None:
    """Probed B last, signed with A: the login is A's."""
    make = how_trusted(policy, how)
    first, last = make(), make()
    client = raw()
    client.service()
    for key in (first, last):
        assert client.probe("alice", key).type == wire.PK_OK
    assert client.try_key("alice", first).type == wire.USERAUTH_SUCCESS
    (factor,) = policy.wait_for("AuthCompleted").context.passed
    shown = factor.certificate.blob if isinstance(first, CertifiedKey) else factor.key.blob
    assert shown == first.blob


def test_t02_the_signature_is_of_the_key_that_is_shown(policy: Policy, daemon: Daemon, raw: Raw) -> None:
    make = how_trusted(policy, "policy")
    shown, signer = make(), make()
    client = raw()
    client.service()
    assert client.probe("alice", signer).type == wire.PK_OK
    assert client.probe("alice", shown).type == wire.PK_OK
    assert client.try_key("alice", shown, signer=signer).type == wire.USERAUTH_FAILURE
    assert [ask.use.phase for ask in policy.requests("ValidatePublicKey")] == [pb.KEY_PHASE_PROBE] * 2


@pytest.mark.parametrize("how", ["policy", "authority"])
def test_t03_the_proof_is_asked_about_again(policy: Policy, daemon: Daemon, raw: Raw, how: str) -> None:
    """A key revoked between PK_OK and the signature is refused."""
    key = how_trusted(policy, how)()
    client = raw()
    client.service()
    assert client.probe("alice", key).type == wire.PK_OK
    policy.on.ValidatePublicKey = policy.on.ValidateCaKey = key_no()
    assert client.try_key("alice", key).type == wire.USERAUTH_FAILURE
    probe, proof = policy.requests("ValidatePublicKey" if how == "policy" else "ValidateCaKey")
    assert (probe.use.phase, proof.use.phase) == (pb.KEY_PHASE_PROBE, pb.KEY_PHASE_PROVEN)
    assert probe.context.question_id != proof.context.question_id
    assert not daemon.events("login")


# ---- T4: the name changes


@pytest.mark.parametrize("other", ["bob", "Alice", "alice ", ""])
def test_t04_another_name_after_a_partial_success_disconnects(policy: Policy, daemon: Daemon, raw: Raw, other: str) -> None:
    policy.on.BeginAuth = begin(PUBLICKEY, PASSWORD)
    policy.on.ValidatePublicKey = pb.AuthAnswer(partial=partial(PASSWORD))
    policy.on.ValidatePassword = password_ok()
    client = raw()
    client.service()
    assert said(client.try_key("alice", UserKey())) == "partial password"
    client.send(client.password_message(other, "x"))
    assert client.expect_disconnect().code == 2
    assert [ask.context.user for ask in policy.requests("BeginAuth")] == ["alice"]
    assert "ValidatePassword" not in policy.names() and not daemon.events("login")


def test_t04_nothing_of_one_name_is_the_next_ones(policy: Policy, raw: Raw) -> None:
    """Neither state, nor keys, nor what remains, nor what was granted."""
    key = UserKey()

    def who(request: Any, _context: Any) -> Any:
        if request.context.user == "alice":
            return begin(PUBLICKEY, authorized_keys=line(key, 'command="x"'), common=pb.Common(state=b"alice's"))
        return begin(PUBLICKEY, PASSWORD)

    policy.on.BeginAuth = who
    policy.on.ValidatePassword = password_ok()
    client = raw()
    client.service()
    assert client.probe("alice", key).type == wire.PK_OK
    assert said(client.try_key("bob", key)) == "failure publickey,password"  # listed for alice only
    assert client.try_password("bob", "x").type == wire.USERAUTH_SUCCESS
    completed = policy.wait_for("AuthCompleted")
    assert completed.context.state == b"" and completed.restrictions.force_command == b""
    assert [factor.method for factor in completed.context.passed] == [PASSWORD]
    assert policy.wait_for("ValidatePublicKey").context.user == "bob"


# ---- T8: half of a login is none


@pytest.mark.parametrize("how", HOW)
def test_t08_one_factor_twice_is_not_two(policy: Policy, daemon: Daemon, raw: Raw, how: str) -> None:
    required = [methods(PUBLICKEY, PASSWORD)]
    make = how_trusted(policy, how, PUBLICKEY, PASSWORD, required=required)
    policy.on.ValidatePassword = password_no()
    first, second = make(), make()
    client = raw()
    client.service()
    assert said(client.try_key("alice", first)) == "partial password"
    for again in (first, second):
        assert said(client.probe("alice", again)) == "failure password"
        assert said(client.try_key("alice", again)) == "failure password"
    assert not daemon.events("login") and "AuthCompleted" not in policy.names()


@pytest.mark.parametrize("sets", [[[PUBLICKEY, PUBLICKEY]], [[PASSWORD, PUBLICKEY, PUBLICKEY]], [[]], [[PUBLICKEY, 0]], [[PUBLICKEY, 99]]])
def test_t08_a_set_that_cannot_be_passed_lets_nobody_in(policy: Policy, daemon: Daemon, raw: Raw, sets: list[list[int]]) -> None:
    how_trusted(policy, "policy", PUBLICKEY, PASSWORD, required=[methods(*names) for names in sets])
    policy.on.ValidatePassword = password_ok()
    client = raw()
    client.service()
    client.send(client.key_message("alice", UserKey()))
    client.send(client.key_message("alice", UserKey()))
    client.send(client.password_message("alice", "x"))
    assert client.expect_end()
    assert not daemon.events("login") and "AuthCompleted" not in policy.names()


@pytest.mark.parametrize("how", HOW)
def test_t08_restrictions_survive_the_second_step(policy: Policy, raw: Raw, how: str) -> None:
    key = UserKey()
    shown = certify(key, CA, critical=[("force-command", string("only this"))]) if "authority" in how else key
    restrictions = None if "authority" in how else pb.Restrictions(force_command=b"only this")
    listed = {"listed": line(key, 'command="only this"'), "listed authority": line(CA, "cert-authority")}.get(how, b"")
    policy.on.BeginAuth = begin(PUBLICKEY, PASSWORD, authorized_keys=listed, required=[methods(PUBLICKEY, PASSWORD)])
    policy.on.ValidatePublicKey = policy.on.ValidateCaKey = pb.AuthAnswer(partial=partial(PASSWORD, restrictions=restrictions))
    policy.on.ValidatePassword = password_ok()
    serve(policy, say(b""))
    client = raw()
    client.service()
    assert said(client.try_key("alice", shown)) == "partial password"
    assert client.try_password("alice", "x").type == wire.USERAUTH_SUCCESS
    assert policy.wait_for("AuthCompleted").restrictions.force_command == b"only this"
    client.execute("anything")
    asked = policy.wait_for("ExecRequested")
    assert (asked.command, asked.original_command) == (b"only this", b"anything")
    assert policy.wait_stream().session.exec.command == b"only this"


def test_t08_a_plain_allow_does_not_open_what_required_keeps_shut(policy: Policy, daemon: Daemon, raw: Raw) -> None:
    """Nor a partial success whose remaining methods are fewer than the set wants."""
    policy.on.BeginAuth = begin(PUBLICKEY, PASSWORD, KBDINT, required=[methods(PUBLICKEY, PASSWORD, KBDINT)])
    policy.on.ValidatePublicKey = pb.AuthAnswer(partial=partial(PASSWORD))
    policy.on.ValidatePassword = password_ok()
    policy.on.GetKbdintChallenge = pb.KbdintAnswer(allow=pb.Allow())
    client = raw()
    client.service()
    assert said(client.try_key("alice", UserKey())) == "partial password"
    assert said(client.try_password("alice", "x")) == "partial keyboard-interactive"
    assert "AuthCompleted" not in policy.names() and not daemon.events("login")
    assert client.try_kbdint("alice").type == wire.USERAUTH_SUCCESS
    assert [factor.method for factor in policy.wait_for("AuthCompleted").context.passed] == [PUBLICKEY, PASSWORD, KBDINT]


# ---- T9: a bad signature is answered, and counted


@pytest.mark.parametrize("how", HOW)
def test_t09_bad_signatures_fail_and_count(policy: Policy, daemon: Daemon, raw: Raw, how: str) -> None:
    key = how_trusted(policy, how)()
    client = raw()
    client.service()
    for _ in range(5):
        assert said(client.try_key("alice", key, signer=UserKey())) == "failure publickey"
    client.send(client.key_message("alice", key, signer=UserKey()))
    assert client.expect_disconnect().code == 14
    assert len(daemon.events("auth_attempt", outcome="failure")) == 6
    assert not {"ValidatePublicKey", "ValidateCaKey", "AuthCompleted"} & set(policy.names())


# ---- T10: certificates


def critical(name: str, data: bytes) -> Any:
    return certify(UserKey(), CA, critical=[(name, data)])


CONFUSING = {
    "comma": lambda: certify(UserKey(), CA, principals=["bob,alice"]),
    "empty": lambda: certify(UserKey(), CA, principals=[]),
    "nested": lambda: certify(UserKey(), (inner := UserKey()), ca_blob=certify(inner, CA).blob),
    "expired": lambda: certify(UserKey(), CA, valid=(1, 2)),
    "not yet": lambda: certify(UserKey(), CA, valid=(2**63, 2**64 - 1)),
    "host": lambda: certify(UserKey(), CA, kind=2),
    "empty address list": lambda: critical("source-address", string("")),
    "no address list": lambda: critical("source-address", b""),
    "other address": lambda: critical("source-address", string("10.0.0.0/8")),
    "unknown critical option": lambda: critical("x@example.org", b""),
    "another's signature": lambda: certify(UserKey(), UserKey(), ca_blob=CA.blob),
}


@pytest.mark.parametrize("options", ["", "cert-authority", 'cert-authority,principals="alice"', 'cert-authority,principals="bob,alice"'])
@pytest.mark.parametrize("what", CONFUSING)
def test_t10_confusing_certificates_are_denied(policy: Policy, daemon: Daemon, raw: Raw, what: str, options: str) -> None:
    """Whether the policy trusts their authority or a line of authorized_keys does."""
    policy.on.BeginAuth = begin(PUBLICKEY, authorized_keys=line(CA, options) if options else b"")
    policy.on.ValidateCaKey = None if options else key_ok()
    client = raw()
    client.service()
    key = CONFUSING[what]()
    assert client.probe("alice", key).type == wire.USERAUTH_FAILURE
    assert client.try_key("alice", key).type == wire.USERAUTH_FAILURE, daemon.log
    assert not daemon.events("login") and "AuthCompleted" not in policy.names()


# ---- T18: grants that are over

SHIM = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static long offset(void)
{
    static volatile long *shared;
    if (!shared)
        shared = mmap(0, 8, PROT_READ, MAP_SHARED, open(getenv("CLOCK_OFFSET"), O_RDONLY), 0);
    return *shared;
}
int clock_gettime(clockid_t id, struct timespec *t)
{
    int rc = syscall(SYS_clock_gettime, id, t);
    if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)
        t->tv_sec += offset();
    return rc;
}
time_t time(time_t *out)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    if (out)
        *out = t.tv_sec;
    return t.tv_sec;
}
int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    out->tv_sec = t.tv_sec;
    out->tv_usec = t.tv_nsec / 1000;
    return 0;
}
"""


class Clock:
    """The wall clock of a daemon, which a test can set."""

    def __init__(self, work: Path) -> None:
        source, library, shared = work / "clock.c", work / "clock.so", work / "clock"
        source.write_text(SHIM)
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source)], check=True)
        shared.write_bytes(bytes(8))
        with shared.open("r+b") as file:
            self._offset = mmap.mmap(file.fileno(), 8)
        self.env = {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(shared), "ASAN_OPTIONS": "verify_asan_link_order=0"}

    def jump(self, seconds: int) -> None:
        self._offset[:] = struct.pack("@q", seconds)


@pytest.fixture
def clock(work: Path) -> Clock:
    return Clock(work)


LIFETIME_S = 4  # enough to log in and to be heard on a machine that is busy


@pytest.mark.parametrize(
    "where,jump_s",
    [("AuthCompleted", 0), ("AuthCompleted", 3600), ("AuthCompleted", -3600), ("ValidatePublicKey", -3600), ("ConnectionMade", 3600)],
)
def test_t18_a_grant_ends_in_its_time_whatever_the_clock_says(
    policy: Policy, start_daemon: StartDaemon, raw: Raw, clock: Clock, where: str, jump_s: int
) -> None:
    """No sooner, which a jump forward might do, and what it opened is closed."""
    allow = pb.Allow(expires_in_s=LIFETIME_S)
    how_trusted(policy, "policy")
    serve(policy, cat)
    setattr(policy.on, where, {"ConnectionMade": pb.ConnectionMadeAnswer, "ValidatePublicKey": pb.AuthAnswer, "AuthCompleted": pb.AuthCompletedAnswer}[where](allow=allow))
    daemon = start_daemon(env=clock.env)
    begun = time.monotonic()
    client = raw(port=daemon.port)
    client.service()
    assert client.try_key("alice", UserKey()).type == wire.USERAUTH_SUCCESS
    channel = client.execute("cat")
    clock.jump(jump_s)
    client.data(channel, b"still here")
    assert client.until(wire.CHANNEL_DATA).type == wire.CHANNEL_DATA
    end = client.expect_end()
    assert time.monotonic() - begun >= LIFETIME_S
    assert "expired" in str(end)
    assert policy.wait_stream().opened  # it was open, and is over:
    policy.wait_end("Channel", "answered")
    # The clock did jump: the log's time says so.
    assert daemon.wait_event("closed")
    if jump_s:
        stamp = daemon.wait_event("closed")["time"]
        logged = time.mktime(time.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
        assert abs(logged - time.time() - jump_s) < 600


def test_t18_an_expired_verdict_opens_nothing(policy: Policy, daemon: Daemon, raw: Raw) -> None:
    how_trusted(policy, "policy")
    policy.on.ValidatePublicKey = key_ok(expires_in_s=0)
    client = raw()
    client.service()
    assert said(client.try_key("alice", UserKey())) == "failure publickey"
    assert not daemon.events("login") and "AuthCompleted" not in policy.names()


def test_t18_a_factor_whose_time_ran_out_is_no_factor(policy: Policy, daemon: Daemon, raw: Raw) -> None:
    """The password comes when the key's grant is over: its answer is held back until then."""
    policy.on.BeginAuth = begin(PUBLICKEY, PASSWORD, required=[methods(PUBLICKEY, PASSWORD)])
    policy.on.ValidatePublicKey = key_ok(expires_in_s=1)
    gate = policy.gate()

    async def held(request: Any, _context: Any) -> Any:
        await gate.passed()
        return password_ok()

    policy.on.ValidatePassword = held
    client = raw()
    client.service()
    assert said(client.try_key("alice", UserKey())) == "partial password"
    client.send(client.password_message("alice", "x"))
    policy.wait_for("ValidatePassword")
    client.quiet(1.1)
    gate.open()
    assert said(client.verdict()) == "failure password"
    assert not daemon.events("login") and "AuthCompleted" not in policy.names()


def test_t18_a_listed_key_whose_time_is_over(policy: Policy, start_daemon: StartDaemon, raw: Raw, clock: Clock) -> None:
    """A date is one of the wall clock."""
    key = UserKey()
    later = time.strftime("%Y%m%d%H%MZ", time.gmtime(time.time() + 1800))
    policy.on.BeginAuth = begin(PUBLICKEY, authorized_keys=line(key, f'expiry-time="{later}"'))
    daemon = start_daemon(env=clock.env)
    client = raw(port=daemon.port)
    client.service()
    assert client.probe("alice", key).type == wire.PK_OK
    clock.jump(3600)
    assert client.try_key("alice", key).type == wire.USERAUTH_FAILURE
    clock.jump(0)
    assert client.try_key("alice", key).type == wire.USERAUTH_SUCCESS
