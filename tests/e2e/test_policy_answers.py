"""Only an explicit, well-formed allow allows: nonsense and every status, at every handler that is asked."""

from __future__ import annotations

from typing import Any, Callable, Iterator

import grpc
import pytest

from harness.answers import PASSWORD, PUBLICKEY, accept, begin, grant, key_ok, not_required, password_ok, say, stream, supported
from harness.contract import METHODS, output_class, pb
from harness.daemon import Daemon
from harness.policy import Policy, Status
from harness.rawclient import RawClient, UserKey
from harness.rawssh import Closed, Disconnected
from harness.wire import string, u32

KEY = UserKey()


def good_answers() -> dict[str, Any]:
    """Each live handler's plainest yes."""
    return {
        "ConnectionMade": pb.ConnectionMadeAnswer(allow=pb.Allow()),
        "BeginAuth": begin(PASSWORD, PUBLICKEY),
        "PasswordAuthSupported": supported(),
        "PublicKeyAuthSupported": supported(),
        "ValidatePassword": password_ok(),
        "ValidatePublicKey": key_ok(),
        "AuthCompleted": pb.AuthCompletedAnswer(allow=pb.Allow()),
        "SessionRequested": accept(),
        "PtyRequested": grant(),
        "EnvRequested": grant(),
        "ShellRequested": stream(),
        "ExecRequested": stream(),
        "SubsystemRequested": stream(),
    }


HANDLERS = list(good_answers())


class Refused(Exception):
    """Where the client came to its end."""


def go_through(client: RawClient, handler: str) -> None:
    """As far as `handler` is asked, and on to what its yes brings; Refused if the answer was a no."""
    client.service()
    key = handler in ("PublicKeyAuthSupported", "ValidatePublicKey")
    answer = client.try_key("alice", KEY) if key else client.try_password("alice", "x")
    if answer.type != 52:
        raise Refused(answer)
    client.send(client.open_message())
    confirmation = client.expect(91, 92)
    if confirmation.type == 92:
        raise Refused(confirmation)
    confirmation.u32()
    number = confirmation.u32()
    requests = {
        "PtyRequested": ("pty-req", string("vt100") + u32(80) + u32(24) + u32(0) + u32(0) + string(b"\0")),
        "EnvRequested": ("env", string("LANG") + string("C")),
        "ShellRequested": ("shell", b""),
        "SubsystemRequested": ("subsystem", string("sftp")),
    }
    name, rest = requests.get(handler, ("exec", string("x")))
    if not client.request(number, name, rest):
        raise Refused(name)


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Policy, Daemon]]:
    """One daemon for all of these: after each nonsense the same daemon must still work."""
    import tempfile
    from pathlib import Path

    from harness.keys import make_key

    with tempfile.TemporaryDirectory(prefix="parley-e2e-") as name, Policy(f"unix:{name}/policy.sock") as policy:
        key = make_key(Path(name) / "host")
        daemon = Daemon(["--listen", "127.0.0.1:0", "--host-key", str(key.path), "--policy", policy.target])
        try:
            yield policy, daemon.wait_ready()
            daemon.stop()
        finally:
            daemon.kill()


Try = Callable[[str, Any], None]


@pytest.fixture
def attempt(shared: tuple[Policy, Daemon]) -> Try:
    """attempt(handler, answer): a whole login and session in which only this handler answers differently."""
    policy, daemon = shared

    def run(handler: str, answer: Any) -> None:
        for name, good in good_answers().items():
            setattr(policy.on, name, good)
        policy.on.Channel = say(b"x")
        if handler in ("PasswordAuthSupported", "PublicKeyAuthSupported"):
            policy.on.BeginAuth = pb.BeginAuthAnswer(requirement=pb.REQUIREMENT_REQUIRED)
        setattr(policy.on, handler, answer)
        client = None
        try:
            client = RawClient(daemon.port)
            go_through(client, handler)
        except (Disconnected, Closed) as end:
            raise Refused(end) from None
        finally:
            if client:
                client.close()

    return run


def check_refused(attempt: Try, shared: tuple[Policy, Daemon], handler: str, answer: Any) -> None:
    """A no, a living daemon, and a yes right afterwards."""
    policy, daemon = shared
    with pytest.raises(Refused) as end:
        attempt(handler, answer)
    if isinstance(end.value.args[0], Disconnected):
        assert end.value.args[0].reason, "a disconnect says why"
    connection = policy.requests("ConnectionMade")[-1].context.connection_id
    daemon.wait_event("closed", id=connection)
    before_login = HANDLERS.index(handler) <= HANDLERS.index("AuthCompleted")
    assert len(daemon.events("login", id=connection)) == (0 if before_login else 1)
    attempt(handler, good_answers()[handler] if "Supported" not in handler else supported())
    assert daemon.process.poll() is None


@pytest.mark.parametrize("handler", HANDLERS)
def test_the_plain_yes_is_one(attempt: Try, handler: str) -> None:
    """Or the tests below would prove nothing."""
    attempt(handler, supported() if "Supported" in handler else good_answers()[handler])


CODES = [code for code in grpc.StatusCode if code not in (grpc.StatusCode.OK, grpc.StatusCode.UNIMPLEMENTED)]


@pytest.mark.parametrize("handler", HANDLERS)
def test_every_status_refuses(attempt: Try, shared: tuple[Policy, Daemon], handler: str) -> None:
    for code in CODES:
        check_refused(attempt, shared, handler, Status(code, f"because of {code.name}"))


# ---- answers of the right type that say nothing


EMPTY_REFUSES = [name for name in HANDLERS if name != "BeginAuth"]  # an empty BeginAuthAnswer: required, nothing in advance


@pytest.mark.parametrize("handler", EMPTY_REFUSES)
def test_empty_answer_refuses(attempt: Try, shared: tuple[Policy, Daemon], handler: str) -> None:
    check_refused(attempt, shared, handler, b"")


@pytest.mark.parametrize("handler", EMPTY_REFUSES)
def test_only_common_refuses(attempt: Try, shared: tuple[Policy, Daemon], handler: str) -> None:
    check_refused(attempt, shared, handler, output_class(handler)(common=pb.Common(log={"a": "b"})))


# ---- bytes that are more, or less, than the message


UNKNOWN = {
    "varint": bytes([0xF8, 0x7F, 0x01]),  # field 2047
    "bytes": bytes([0xFA, 0x7F, 0x01, 0x00]),
    "known-number-other-type": bytes([0x15, 0, 0, 0, 0]),  # field 2, fixed32
}


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("kind", UNKNOWN)
def test_unknown_field_refuses(attempt: Try, shared: tuple[Policy, Daemon], handler: str, kind: str) -> None:
    good = supported() if "Supported" in handler else good_answers()[handler]
    check_refused(attempt, shared, handler, good.SerializeToString() + UNKNOWN[kind])


@pytest.mark.parametrize("handler", ["ConnectionMade", "ValidatePassword", "AuthCompleted", "PtyRequested"])
def test_unknown_field_in_allow_refuses(attempt: Try, shared: tuple[Policy, Daemon], handler: str) -> None:
    """It may be a restriction that this daemon is too old to enforce."""
    inner = bytes([0xF8, 0x7F, 0x01])
    check_refused(attempt, shared, handler, bytes([0x12, len(inner)]) + inner)


@pytest.mark.parametrize("handler", HANDLERS)
def test_unknown_field_in_common_is_tolerated(attempt: Try, handler: str) -> None:
    good = supported() if "Supported" in handler else good_answers()[handler]
    attempt(handler, good.SerializeToString() + bytes([0x0A, 0x03, 0xF8, 0x7F, 0x01]))


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("garbage", [b"\xff", b"\xff\xff\xff\xff", b"\x12\xff\xff\xff\xff\x0f", b"\x0a\x05ab", b"\0"], ids=lambda b: b.hex())
def test_garbage_refuses(attempt: Try, shared: tuple[Policy, Daemon], handler: str, garbage: bytes) -> None:
    check_refused(attempt, shared, handler, garbage)


@pytest.mark.parametrize("handler", HANDLERS)
def test_truncated_answer_refuses(attempt: Try, shared: tuple[Policy, Daemon], handler: str) -> None:
    good = supported() if "Supported" in handler else good_answers()[handler]
    check_refused(attempt, shared, handler, good.SerializeToString()[:-1] or b"\x0a")


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("text", [b"a\0b", b"\xff\xfe"], ids=["nul", "not-utf8"])
def test_unclean_string_refuses(attempt: Try, shared: tuple[Policy, Daemon], handler: str, text: bytes) -> None:
    """In any string of the answer: here Common.banner.text, beside a good verdict."""
    good = supported() if "Supported" in handler else good_answers()[handler]
    banner = bytes([0x0A, len(text)]) + text
    common = bytes([0x1A, len(banner)]) + banner
    check_refused(attempt, shared, handler, bytes([0x0A, len(common)]) + common + good.SerializeToString())


@pytest.mark.parametrize("handler", HANDLERS)
def test_oversize_answer_refuses(attempt: Try, shared: tuple[Policy, Daemon], handler: str) -> None:
    """More than 64 KiB (BeginAuth: 1 MiB and what belongs to it)."""
    good = supported() if "Supported" in handler else good_answers()[handler]
    size = (2 << 20) if handler == "BeginAuth" else 65536
    big = type(good)()
    big.CopyFrom(good)
    big.common.log["a"] = "x" * size
    check_refused(attempt, shared, handler, big)


# ---- enums and oneofs


@pytest.mark.parametrize("value", [0, 1, 3, 99, -1, 2**31 - 1])
def test_only_the_one_requirement_lets_in_without_a_credential(policy: Policy, raw: Callable[..., RawClient], value: int) -> None:
    answer = pb.BeginAuthAnswer()
    answer.requirement = value
    policy.on.BeginAuth = answer
    client = raw()
    client.service()
    try:
        assert client.try_none().type == 51 and value in (0, 1)
    except Disconnected as end:
        assert value not in (0, 1) and "policy" in end.reason


@pytest.mark.parametrize("handler", ["PasswordAuthSupported", "PublicKeyAuthSupported"])
@pytest.mark.parametrize("value", [0, 2, 3, 4, 99, -1])
def test_other_support_is_no(attempt: Try, shared: tuple[Policy, Daemon], handler: str, value: int) -> None:
    answer = pb.SupportedAnswer()
    answer.support = value
    check_refused(attempt, shared, handler, answer)


def test_unknown_method_refuses(attempt: Try, shared: tuple[Policy, Daemon]) -> None:
    answer = begin(PASSWORD)
    answer.methods.methods.append(99)
    check_refused(attempt, shared, "BeginAuth", answer)


@pytest.mark.parametrize("handler", ["ValidatePassword", "ValidatePublicKey", "ConnectionMade", "AuthCompleted", "PtyRequested"])
def test_allow_then_deny_is_the_last(attempt: Try, shared: tuple[Policy, Daemon], handler: str) -> None:
    """Both members of a oneof on the wire: protobuf takes the last; no reading of it may allow what the last one denies."""
    check_refused(attempt, shared, handler, bytes([0x12, 0]) + bytes([0x1A, 0]))


def test_an_expired_allow_is_no_login(attempt: Try, shared: tuple[Policy, Daemon]) -> None:
    check_refused(attempt, shared, "ValidatePassword", password_ok(expires_in_s=0))


def test_two_different_forced_commands_refuse(shared: tuple[Policy, Daemon], attempt: Try) -> None:
    policy, _ = shared
    answer = password_ok(restrictions=pb.Restrictions(force_command=b"two"))

    def both(_request: Any, _context: Any) -> Any:
        return answer

    policy.on.ConnectionMade = None
    for name, good in good_answers().items():
        setattr(policy.on, name, good)
    policy.on.ConnectionMade = pb.ConnectionMadeAnswer(allow=pb.Allow(restrictions=pb.Restrictions(force_command=b"one")))
    policy.on.ValidatePassword = both
    client = RawClient(shared[1].port)
    client.service()
    assert client.try_password("alice", "x").type == 51
    client.close()


# ---- absent handlers


@pytest.mark.parametrize("handler", ["ConnectionMade", "AuthCompleted"])
def test_required_handler_that_is_absent_refuses(policy: Policy, start_daemon: Callable[..., Daemon], handler: str) -> None:
    policy.on.BeginAuth = not_required()
    daemon = start_daemon("--required-handler", handler)
    client = None
    with pytest.raises((Disconnected, Closed)):
        client = RawClient(daemon.port)
        client.login()
        client.open()
    if client:
        client.close()
    assert not daemon.events("login")


def test_unimplemented_is_the_default_everywhere(policy: Policy, raw: Callable[..., RawClient]) -> None:
    """A policy with only BeginAuth, SessionRequested and Channel is a whole one."""
    policy.on.BeginAuth = not_required()
    policy.on.SessionRequested = stream()
    policy.on.Channel = say(b"x")
    client = raw().login()
    number = client.open()
    assert client.request(number, "env", string("LANG") + string("C"))
    assert client.request(number, "pty-req", string("vt100") + u32(80) + u32(24) + u32(0) + u32(0) + string(b"\0"))
    assert client.request(number, "shell")
    assert client.expect(94)
    assert set(policy.names()) <= set(METHODS)
