"""Keys, certificates and several factors: who is asked what, in which order and how often, and what the client is told.

A row is a whole login. What is sent is a list of steps: "probe K" offers a key, "prove K" signs with it, "password x",
"none"; a name other than alice's stands behind "as"."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Callable

import pytest

from harness.answers import KBDINT, PASSWORD, PUBLICKEY, begin, key_no, key_ok, methods, partial, password_no, password_ok, supported
from harness.contract import pb
from harness.daemon import Daemon
from harness.policy import Policy
from harness.rawclient import RawClient, UserKey
from harness.rawssh import Disconnected
from harness.softkeys import VERIFIED, EcdsaKey, RsaKey, SecurityKey, certify
from harness.wire import boolean, mpint, said, string

Raw = Callable[..., RawClient]

# ---- who takes part


def named(algorithm: bytes, blob: bytes, key: Any = None) -> Any:
    """A key that is shown under this name; without a key it cannot sign."""
    return SimpleNamespace(algorithm=algorithm, blob=blob, sign=key.sign if key else lambda data: b"")


def modulus(bits: int) -> bytes:
    number = int.from_bytes(os.urandom(bits // 8 + 1), "big") % (1 << bits) | (1 << (bits - 1)) | 1
    return string("ssh-rsa") + mpint(65537) + mpint(number)


A, B, CA = UserKey(), UserKey(), UserKey()
R512 = RsaKey()
CERT = certify(A, CA)
WHO: dict[str, Any] = {
    "A": A,
    "B": B,
    "CA": CA,
    "ecdsa": EcdsaKey(),
    "rsa256": RsaKey(b"rsa-sha2-256"),
    "rsa512": R512,
    "rsa1": RsaKey(b"ssh-rsa"),
    "rsa512-as-256": named(b"rsa-sha2-256", R512.blob, R512),
    "rsa-as-ed25519": named(b"ssh-ed25519", R512.blob, R512),
    "rsa1024": named(b"rsa-sha2-512", modulus(1024)),
    "rsa2047": named(b"rsa-sha2-512", modulus(2047)),
    "rsa2048": named(b"rsa-sha2-512", modulus(2048)),
    "rsa16384": named(b"rsa-sha2-512", modulus(16384)),
    "rsa16385": named(b"rsa-sha2-512", modulus(16385)),
    "B-by-A": named(B.algorithm, B.blob, A),
    "sk": SecurityKey(),
    "sk-ecdsa": SecurityKey("ecdsa"),
    "sk-untouched": SecurityKey(flags=0),
    "sk-verified": SecurityKey(flags=1 | VERIFIED),
    "sk-pin-only": SecurityKey("ecdsa", flags=VERIFIED),
    "cert": CERT,
    "cert-expired": certify(A, CA, valid=(1, 2)),
    "cert-root": certify(A, CA, principals=["root"]),
    "cert-forced": certify(A, CA, critical=[("force-command", string("/bin/cert"))]),
    "cert-forged": certify(A, B, ca_blob=CA.blob),
    "cert-sk": certify(SecurityKey(flags=0), CA, extensions=[("no-touch-required", b"")]),
}


def line(who: str, options: str = "") -> str:
    """Of authorized_keys."""
    blob = WHO[who].blob
    kind = blob[4 : 4 + int.from_bytes(blob[:4], "big")].decode()
    return f"{options} {kind} {base64.b64encode(blob).decode()}\n".lstrip()


BOTH = "publickey,password"
FAIL = f"failure {BOTH}"


def answers(begin_fields: dict[str, Any] | None = None, **handlers: Any) -> dict[str, Any]:
    """Every key, every authority and the password "yes" are good, unless the row says otherwise."""
    return {
        "BeginAuth": begin(PUBLICKEY, PASSWORD, **(begin_fields or {})),
        "ValidatePublicKey": key_ok(),
        "ValidateCaKey": key_ok(),
        "ValidatePassword": lambda request, _: password_ok() if request.password == "yes" else password_no(),
    } | handlers


def keys(*lines: str, **handlers: Any) -> dict[str, Any]:
    return answers({"authorized_keys": "".join(lines).encode()}, **handlers)


def key_partial(*remaining: int, **fields: Any) -> Any:
    return pb.AuthAnswer(partial=partial(*remaining, **fields))


def only_proven(request: Any, _context: Any) -> Any:
    """Whoever probes is told to go on, and is refused then."""
    return key_ok() if request.use.phase == pb.KEY_PHASE_PROBE else key_no()


def all_of(*sets: tuple[int, ...]) -> dict[str, Any]:
    return {"required": [methods(*names) for names in sets]}


@dataclass
class Row:
    what: str
    sent: list[str]
    told: list[str]
    asked: list[str]  # after BeginAuth: "K probe", "K proven" (ValidatePublicKey), "CA ...", "password", "done" (AuthCompleted), ...
    policy: dict[str, Any] = field(default_factory=answers)
    restricted: dict[str, Any] = field(default_factory=dict)  # what AuthCompleted must be told, if there is one


UNTOUCHED = pb.Restrictions(touch_not_required=True)
FORCED = pb.Restrictions(force_command=b"/bin/policy")

ROWS = [
    # ---- probe and proof
    Row("an offer and its proof are two questions", ["probe A", "prove A"], ["60", "success"], ["K probe", "K proven", "done"]),
    Row("a proof needs no offer", ["prove A"], ["success"], ["K proven", "done"]),
    Row("an offer is no login", ["probe A", "none"], ["60", FAIL], ["K probe"]),
    Row("a yes to an offer binds nobody", ["probe A", "prove A"], ["60", FAIL], ["K probe", "K proven"], answers(ValidatePublicKey=only_proven)),
    Row("a no to an offer", ["probe A"], [FAIL], ["K probe"], answers(ValidatePublicKey=key_no())),
    Row("each offer is asked", ["probe A", "probe B", "probe A"], ["60"] * 3, ["K probe"] * 3),
    Row("no handler is no", ["probe A", "prove A"], [FAIL] * 2, ["K probe"], answers(ValidatePublicKey=None)),
    # ---- kinds, sizes and algorithms
    Row("ECDSA", ["prove ecdsa"], ["success"], ["K proven", "done"]),
    Row("RSA with SHA-256", ["prove rsa256"], ["success"], ["K proven", "done"]),
    Row("RSA with SHA-512", ["prove rsa512"], ["success"], ["K proven", "done"]),
    Row("RSA with SHA-1", ["probe rsa1", "prove rsa1"], [FAIL] * 2, []),
    Row("asked for another hash than signed with", ["probe rsa512-as-256", "prove rsa512-as-256"], ["60", FAIL], ["K probe"]),
    Row("asked for another type than the key's", ["probe rsa-as-ed25519", "prove rsa-as-ed25519"], [FAIL] * 2, []),
    Row("RSA that is too short", ["probe rsa1024", "probe rsa2047", "prove rsa1024"], [FAIL] * 3, []),
    Row("RSA that is too long", ["probe rsa16385", "prove rsa16385"], [FAIL] * 2, []),
    Row("RSA at the bounds", ["probe rsa2048", "probe rsa16384"], ["60"] * 2, ["K probe"] * 2),
    Row("another key's signature", ["prove B-by-A"], [FAIL], []),
    # ---- security keys
    Row("touched", ["prove sk"], ["success"], ["K proven", "done"]),
    Row("touched, on a curve of NIST's", ["prove sk-ecdsa"], ["success"], ["K proven", "done"]),
    Row("not touched", ["probe sk-untouched", "prove sk-untouched"], ["60", FAIL], ["K probe", "K proven"]),
    Row("PIN without touch", ["prove sk-pin-only"], [FAIL], ["K proven"]),
    Row("not touched, which is fine", ["prove sk-untouched"], ["success"], ["K proven", "done"], answers(ValidatePublicKey=key_ok(restrictions=UNTOUCHED))),
    Row("PIN wanted and given", ["prove sk-verified"], ["success"], ["K proven", "done"], answers(ValidatePublicKey=key_ok(restrictions=pb.Restrictions(verify_required=True)))),
    Row("PIN wanted", ["prove sk", "prove A"], [FAIL] * 2, ["K proven"] * 2, answers(ValidatePublicKey=key_ok(restrictions=pb.Restrictions(verify_required=True)))),
    Row("listed, not touched", ["prove sk-untouched"], [FAIL], [], keys(line("sk-untouched"))),
    Row("listed, need not be touched", ["prove sk-untouched"], ["success"], ["done"], keys(line("sk-untouched", "no-touch-required"))),
    Row("listed, PIN wanted", ["prove sk", "prove sk-verified"], [FAIL, "success"], ["done"], keys(line("sk", "verify-required"), line("sk-verified", "verify-required"))),
    Row("PIN wanted by the second factor", ["prove A", "password yes"], ["partial password", "failure password"], ["K proven", "password"],
        answers(ValidatePublicKey=key_partial(PASSWORD), ValidatePassword=password_ok(restrictions=pb.Restrictions(verify_required=True)))),
    # ---- authorized_keys
    Row("listed", ["probe A", "prove A"], ["60", "success"], ["done"], keys(line("A"))),
    Row("listed, and methods are not", ["prove A"], ["success"], ["done"], keys(line("A")) | {"BeginAuth": pb.BeginAuthAnswer(authorized_keys=line("A").encode())}),
    Row("methods are listed without a question about keys", ["none"], [FAIL], ["KbdintAuthSupported", "PasswordAuthSupported"],
        answers(BeginAuth=pb.BeginAuthAnswer(authorized_keys=line("A").encode()), KbdintAuthSupported=supported(False), PasswordAuthSupported=supported())),
    Row("listed, and keys are not offered", ["prove A"], ["failure password"], [], answers(BeginAuth=begin(PASSWORD, authorized_keys=line("A").encode()))),
    Row("not listed", ["probe B", "prove B"], ["60", "success"], ["K probe", "K proven", "done"], keys(line("A"))),
    Row("not listed, nor known", ["prove B"], [FAIL], ["K proven"], keys(line("A"), ValidatePublicKey=key_no())),
    Row("listed for another address", ["prove A"], [FAIL], ["K proven"], keys(line("A", 'from="10.0.0.1"'), ValidatePublicKey=key_no())),
    Row("listed for this address", ["prove A"], ["success"], ["done"], keys(line("A", 'from="!10.0.0.1,127.0.0.0/8"'))),
    Row("listed until yesterday", ["prove A"], [FAIL], ["K proven"], keys(line("A", 'expiry-time="20200101"'), ValidatePublicKey=key_no())),
    Row("listed until tomorrow", ["prove A"], ["success"], ["done"], keys(line("A", 'expiry-time="20990101"'))),
    Row("listed with an unknown option", ["prove A"], [FAIL], ["K proven"], keys(line("A", "no-such-thing"), ValidatePublicKey=key_no())),
    Row("the first line counts", ["prove A"], ["success"], ["done"], keys(line("A", 'command="1"'), line("A", 'command="2"')), {"force_command": b"1"}),
    Row("a listed key's signature is checked", ["prove B-by-A"], [FAIL], [], keys(line("B"))),
    Row("options are restrictions", ["prove A"], ["success"], ["done"], keys(line("A", 'restrict,pty,command="x"')),
        {"no_pty": False, "no_port_forwarding": True, "no_x11_forwarding": True, "no_agent_forwarding": True, "force_command": b"x"}),
    Row("what a probed line restricts is dropped", ["probe A", "prove B"], ["60", "success"], ["done"], keys(line("A", 'command="x"'), line("B")), {"force_command": b""}),
    Row("an authority is no key", ["prove A"], [FAIL], ["K proven"], keys(line("A", "cert-authority"), ValidatePublicKey=key_no())),
    # ---- certificates
    Row("a certificate asks about its authority", ["probe cert", "prove cert"], ["60", "success"], ["CA probe", "CA proven", "done"]),
    Row("no handler is no to an authority", ["prove cert"], [FAIL], ["CA proven"], answers(ValidateCaKey=None)),
    Row("trusted, and not for this user", ["probe cert-root", "prove cert-root"], [FAIL] * 2, ["CA probe", "CA proven"]),
    Row("trusted, and for that user", ["prove cert-root as root"], ["success"], ["BeginAuth", "CA proven", "done"]),
    Row("trusted, and expired", ["probe cert-expired"], [FAIL], ["CA probe"]),
    Row("not signed by whom it names", ["probe cert-forged", "prove cert-forged"], [FAIL] * 2, []),
    Row("listed authority", ["probe cert", "prove cert"], ["60", "success"], ["done"], keys(line("CA", "cert-authority"))),
    Row("listed authority, expired", ["probe cert-expired", "prove cert-expired"], [FAIL] * 2, [], keys(line("CA", "cert-authority"))),
    Row("listed authority, another user", ["prove cert-root"], [FAIL], [], keys(line("CA", "cert-authority"))),
    Row("listed authority, name by option", ["prove cert-root"], ["success"], ["done"], keys(line("CA", 'cert-authority,principals="x,root"'))),
    Row("listed authority, not by option", ["prove cert"], [FAIL], ["CA proven"], keys(line("CA", 'cert-authority,principals="x,root"'), ValidateCaKey=key_no())),
    Row("listed authority, not signed by it", ["prove cert-forged"], [FAIL], [], keys(line("CA", "cert-authority"))),
    Row("of several lines the one that fits", ["prove cert-root"], ["success"], ["done"],
        keys(line("CA", "cert-authority"), line("CA", 'cert-authority,principals="x"'), line("CA", 'cert-authority,principals="root",command="y"')), {"force_command": b"y"}),
    Row("a listed key is no authority", ["prove cert"], [FAIL], ["CA proven"], keys(line("CA"), line("A"), ValidateCaKey=key_no())),
    Row("two different commands, listed", ["prove cert-forced"], [FAIL], [], keys(line("CA", 'cert-authority,command="/bin/line"'))),
    Row("the same command twice", ["prove cert-forced"], ["success"], ["done"], keys(line("CA", 'cert-authority,command="/bin/cert"')), {"force_command": b"/bin/cert"}),
    Row("two different commands, by the policy", ["prove cert-forced"], [FAIL], ["CA proven"], answers(ValidateCaKey=key_ok(restrictions=FORCED))),
    Row("untouched: line and certificate must agree", ["prove cert-sk"], [FAIL], [], keys(line("CA", "cert-authority"))),
    Row("untouched: line and certificate agree", ["prove cert-sk"], ["success"], ["done"], keys(line("CA", "cert-authority,no-touch-required"))),
    Row("untouched: the certificate says so", ["prove cert-sk"], ["success"], ["CA proven", "done"]),
    # ---- revoked keys
    Row("revoked before anybody is asked", ["probe A", "prove A", "prove cert"], [FAIL] * 3, [], answers({"revoked_keys": line("A").encode()})),
    Row("revoked though listed", ["prove A"], [FAIL], [], answers({"authorized_keys": line("A").encode(), "revoked_keys": line("A").encode()})),
    Row("a list that cannot be read revokes all", ["prove A", "prove cert"], [FAIL] * 2, [], answers({"revoked_keys": b"nonsense"})),
    # ---- several factors
    Row("a key and a password", ["prove A", "password yes"], ["partial password", "success"], ["K proven", "password", "done"], answers(ValidatePublicKey=key_partial(PASSWORD))),
    Row("only what remains goes on", ["prove A", "prove B", "probe B", "password yes"], ["partial password", "failure password", "failure password", "success"],
        ["K proven", "password", "done"], answers(ValidatePublicKey=key_partial(PASSWORD))),
    Row("a partial yes to an offer is no factor", ["probe A", "password yes"], ["60", "success"], ["K probe", "password", "done"], answers(ValidatePublicKey=key_partial(PASSWORD))),
    Row("required outdoes a plain allow", ["prove A", "password yes"], ["partial password", "success"], ["K proven", "password", "done"], answers(all_of((PUBLICKEY, PASSWORD)))),
    Row("required outdoes a list", ["prove A", "password no", "password yes"], ["partial password", "failure password", "success"], ["password", "password", "done"],
        answers({"authorized_keys": line("A").encode()} | all_of((PUBLICKEY, PASSWORD)))),
    Row("in either order", ["password yes", "probe A", "prove A"], ["partial publickey", "60", "success"], ["password", "done"],
        answers({"authorized_keys": line("A").encode()} | all_of((PUBLICKEY, PASSWORD)))),
    Row("one of the sets is enough", ["password yes"], ["success"], ["password", "done"], answers(all_of((PUBLICKEY, KBDINT), (PASSWORD,)))),
    Row("two keys are one factor", ["prove A", "prove B"], ["partial password", "failure password"], ["K proven"], answers(all_of((PUBLICKEY, PASSWORD)))),
    Row("a set that wants a method twice", ["prove A"], ["disconnect 14"], ["K proven"], answers(all_of((PUBLICKEY, PUBLICKEY)))),
    Row("an empty set", ["prove A"], ["disconnect 14"], ["K proven"], answers(all_of(()))),
    Row("a partial success that leaves the same method", ["prove A"], ["disconnect 14"], ["K proven"], answers(ValidatePublicKey=key_partial(PUBLICKEY))),
    Row("another name after a partial success", ["prove A", "password yes as bob"], ["partial password", "disconnect 2"], ["K proven"], answers(ValidatePublicKey=key_partial(PASSWORD))),
    Row("what factors restrict is gathered", ["prove A", "password yes"], ["partial password", "success"], ["password", "done"],
        answers({"authorized_keys": line("A", "no-pty").encode()} | all_of((PUBLICKEY, PASSWORD)), ValidatePassword=password_ok(restrictions=FORCED)),
        {"no_pty": True, "force_command": b"/bin/policy"}),
    Row("what factors restrict and contradicts refuses", ["prove A", "password yes"], ["partial password", "failure password"], ["password"],
        answers({"authorized_keys": line("A", 'command="x"').encode()} | all_of((PUBLICKEY, PASSWORD)), ValidatePassword=password_ok(restrictions=FORCED))),
]  # fmt: skip


def send(client: RawClient, step: str) -> str:
    step, _, user = step.partition(" as ")
    kind, _, what = step.partition(" ")
    try:
        if kind == "none":
            return said(client.try_none(user or "alice"))
        if kind == "password":
            return said(client.try_password(user or "alice", what))
        key = WHO[what]
        if kind == "probe":
            return said(client.ask(client.auth_message(user or "alice", "publickey", boolean(False) + string(key.algorithm) + string(key.blob))))
        return said(client.try_key(user or "alice", key))
    except Disconnected as end:
        return f"disconnect {end.code}"


SHORT = {"ValidatePublicKey": "K", "ValidateCaKey": "CA", "ValidatePassword": "password", "AuthCompleted": "done"}


def asked(policy: Policy) -> list[str]:
    phases = {pb.KEY_PHASE_PROBE: " probe", pb.KEY_PHASE_PROVEN: " proven"}
    with policy.board.look:
        calls = [call for call in policy.calls if call.name not in ("ConnectionMade", "ConnectionLost", "HostBasedAuthSupported")]
    return [SHORT.get(call.name, call.name) + (phases[call.request.use.phase] if "Key" in call.name and "use" in call.request.DESCRIPTOR.fields_by_name else "") for call in calls]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_credentials(policy: Policy, daemon: Daemon, raw: Raw, row: Row) -> None:
    for name, handler in row.policy.items():
        setattr(policy.on, name, handler)
    client = raw()
    client.service()
    told = [send(client, step) for step in row.sent]
    assert told == row.told, daemon.log
    if told[-1] == "success":
        completed = policy.wait_for("AuthCompleted")
        assert {name: getattr(completed.restrictions, name) for name in row.restricted} == row.restricted
    first, *rest = asked(policy)
    assert first == "BeginAuth"
    assert rest == [name for name in row.asked if name != "BeginAuth"]
    if "success" in told:
        daemon.wait_event("auth_attempt", outcome="success")
    else:
        assert not daemon.events("auth_attempt", outcome="success") and not daemon.events("login")
