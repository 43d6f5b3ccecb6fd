"""The order of a login: ConnectionMade, BeginAuth for each name, the answer's banner, state and disconnect, AuthCompleted."""

from __future__ import annotations

from typing import Any, Callable

import pytest

from harness.answers import PASSWORD, PUBLICKEY, begin, cat, not_required, open_house, partial, password_house, password_ok, say
from harness.clients import OpenSsh
from harness.contract import pb
from harness.daemon import Daemon
from harness.policy import Gate, Policy
from harness.rawclient import RawClient, UserKey
from harness.rawssh import Disconnected

Raw = Callable[..., RawClient]


def after(gate: Gate, answer: Any) -> Callable[..., Any]:
    """A handler that answers once the gate is open."""

    async def handler(_request: Any, _context: Any) -> Any:
        await gate.passed()
        return answer

    return handler


# ---- BeginAuth


def test_no_credential_required(policy: Policy, ssh: OpenSsh) -> None:
    open_house(policy, say(b"in\n"))
    result = ssh.run("x")
    assert (result.status, result.out) == (0, b"in\n"), result
    assert [factor.method for factor in policy.wait_for("AuthCompleted").context.passed] == [pb.AUTH_METHOD_NONE]


def test_unspecified_requirement_requires(policy: Policy, raw: Raw) -> None:
    policy.on.BeginAuth = pb.BeginAuthAnswer()
    client = raw()
    client.service()
    assert client.try_none().type == 51


def test_required_set_holds_against_not_required(policy: Policy, raw: Raw) -> None:
    policy.on.BeginAuth = not_required(methods=pb.Methods(methods=[PASSWORD]), required=[pb.Methods(methods=[PASSWORD])])
    client = raw()
    client.service()
    assert client.try_none().type == 51


def test_another_name_starts_over(policy: Policy, raw: Raw) -> None:
    def answer(request: Any, _context: Any) -> Any:
        return begin(PASSWORD) if request.context.user == "alice" else begin(PUBLICKEY)

    password_house(policy)
    policy.on.BeginAuth = answer
    client = raw()
    client.service()
    assert client.try_none("alice").names() == ["password"]
    assert client.try_none("bob").names() == ["publickey"]
    assert client.try_password("bob", "wonderland").type == 51
    assert client.try_password("alice", "wonderland").type == 52
    assert [request.context.user for request in policy.requests("BeginAuth")] == ["alice", "bob", "alice"]
    assert policy.wait_for("AuthCompleted").context.user == "alice"


def test_not_required_is_for_that_name_only(policy: Policy, raw: Raw) -> None:
    """Pipelined: guest needs no credential, and admin does not come in on that."""

    def answer(request: Any, _context: Any) -> Any:
        return not_required() if request.context.user == "guest" else begin(PASSWORD)

    policy.on.BeginAuth = answer
    client = raw()
    client.service()
    client.send_all(client.auth_message("guest", "none"), client.auth_message("admin", "none"))
    assert client.verdict().type == 52
    assert policy.wait_for("AuthCompleted").context.user == "guest"
    assert not client.global_request("x@example.com")  # the second request was ignored
    assert [request.context.user for request in policy.requests("BeginAuth")] == ["guest"]


def test_change_of_name_after_a_partial_success_disconnects(policy: Policy, raw: Raw) -> None:
    policy.on.BeginAuth = begin(PASSWORD, PUBLICKEY)
    policy.on.ValidatePassword = pb.PasswordAnswer(partial=partial(PUBLICKEY))
    client = raw()
    client.service()
    assert client.try_password("alice", "x").type == 51
    client.send(client.auth_message("bob", "none"))
    assert client.expect_disconnect().code == 2


def test_empty_user_name_is_a_name(policy: Policy, raw: Raw) -> None:
    policy.on.BeginAuth = begin(PASSWORD)
    client = raw()
    client.service()
    assert client.try_none("").type == 51
    assert [request.context.user for request in policy.requests("BeginAuth")] == [""]


def test_pipelined_requests_are_answered_in_order(policy: Policy, raw: Raw) -> None:
    """The second waits for the first's decision, and each is decided under its own name."""
    gate = policy.gate()
    password_house(policy)
    policy.on.BeginAuth = after(gate, begin(PASSWORD))
    client = raw()
    client.service()
    client.send_all(client.password_message("bob", "wonderland"), client.password_message("alice", "wonderland"))
    policy.wait_for("BeginAuth")
    client.quiet(0.3)
    gate.open()
    assert client.verdict().type == 51
    assert client.verdict().type == 52
    assert [request.context.user for request in policy.requests("ValidatePassword")] == ["bob", "alice"]


# ---- what every answer may carry


def test_banner_is_shown(policy: Policy, ssh: OpenSsh) -> None:
    open_house(policy, say(b"in\n"))
    policy.on.BeginAuth = not_required(common=pb.Common(banner=pb.Banner(text="Keep off the grass.\n")))
    result = ssh.run("x")
    assert result.status == 0 and "Keep off the grass." in result.err, result


def test_banner_of_connection_made_is_shown(policy: Policy, ssh: OpenSsh) -> None:
    open_house(policy, say(b"in\n"))
    policy.on.ConnectionMade = pb.ConnectionMadeAnswer(common=pb.Common(banner=pb.Banner(text="Early bird.")), allow=pb.Allow())
    result = ssh.run("x")
    assert result.status == 0 and "Early bird." in result.err, result


@pytest.mark.parametrize("handler", ["ConnectionMade", "BeginAuth", "ValidatePassword", "AuthCompleted", "SessionRequested", "ExecRequested"])
def test_any_answer_may_disconnect(policy: Policy, raw: Raw, handler: str) -> None:
    """It wins over the rest of the answer."""
    password_house(policy)
    disconnect = pb.Common(disconnect=pb.Disconnect(code=12, reason="come back later", language="en"))
    answers = {
        "ConnectionMade": pb.ConnectionMadeAnswer(common=disconnect, allow=pb.Allow()),
        "BeginAuth": not_required(common=disconnect),
        "ValidatePassword": pb.PasswordAnswer(common=disconnect, allow=pb.Allow()),
        "AuthCompleted": pb.AuthCompletedAnswer(common=disconnect, allow=pb.Allow()),
        "SessionRequested": pb.SessionAnswer(common=disconnect, accept=pb.Accept()),
        "ExecRequested": pb.SessionAnswer(common=disconnect, stream=pb.StreamEndpoint()),
    }
    setattr(policy.on, handler, answers[handler])
    try:
        client = raw()
    except Disconnected as end:  # in the middle of the key exchange already
        assert handler == "ConnectionMade" and (end.code, end.reason) == (12, "come back later")
        return
    client.send_all(bytes([5]) + b"\0\0\0\x0cssh-userauth", client.password_message("alice", "wonderland"))
    if handler in ("SessionRequested", "ExecRequested"):
        client.expect(6), client.expect(52)
        client.send(client.open_message())
        if handler == "ExecRequested":
            confirmation = client.expect(91)
            confirmation.u32()
            client.send(client.request_message(confirmation.u32(), "exec", b"\0\0\0\1x"))
    elif handler == "AuthCompleted":
        client.expect(6), client.expect(52)
    end = client.expect_disconnect()
    assert (end.code, end.reason, end.language) == (12, "come back later", "en")
    lost = policy.wait_for("ConnectionLost")
    assert lost.disconnect_code == 12


def test_disconnect_code_0_is_by_application(policy: Policy, raw: Raw) -> None:
    policy.on.BeginAuth = not_required(common=pb.Common(disconnect=pb.Disconnect(reason="no")))
    client = raw()
    client.service()
    client.send(client.auth_message("alice", "none"))
    assert client.expect_disconnect().code == 11


def test_state_is_carried(policy: Policy, raw: Raw) -> None:
    """Set in one answer, it comes with every later question, until another answer replaces it."""
    password_house(policy)
    policy.on.ConnectionMade = pb.ConnectionMadeAnswer(common=pb.Common(state=b"\0one\xff"), allow=pb.Allow())
    policy.on.ValidatePassword = pb.PasswordAnswer(common=pb.Common(state=b"two"), allow=pb.Allow())
    client = raw()
    client.service()
    client.try_password("alice", "x")
    client.execute()
    states = {call.name: call.request.context.state for call in policy.calls if call.name not in ("Channel", "ConnectionLost")}
    assert states["ConnectionMade"] == b""
    assert states["BeginAuth"] == states["ValidatePassword"] == b"\0one\xff"
    assert states["AuthCompleted"] == states["SessionRequested"] == states["ExecRequested"] == b"two"
    assert policy.wait_stream().opened.context.state == b"two"
    client.close()
    assert policy.wait_for("ConnectionLost").context.state == b"two"


def test_state_set_by_authentication_is_dropped_with_the_name(policy: Policy, raw: Raw) -> None:
    password_house(policy, "bob")
    policy.on.ConnectionMade = pb.ConnectionMadeAnswer(common=pb.Common(state=b"connection"), allow=pb.Allow())
    policy.on.BeginAuth = lambda request, _: begin(PASSWORD, common=pb.Common(state=b"of " + request.context.user.encode()))
    client = raw()
    client.service()
    client.try_password("alice", "x")
    client.try_password("bob", "x")
    assert [request.context.state for request in policy.requests("BeginAuth")] == [b"connection", b"connection"]
    assert [request.context.state for request in policy.requests("ValidatePassword")] == [b"of alice", b"of bob"]


def test_state_of_a_probe_is_ignored(policy: Policy, raw: Raw) -> None:
    key = UserKey()
    policy.on.BeginAuth = begin(PUBLICKEY)
    policy.on.ValidatePublicKey = pb.AuthAnswer(common=pb.Common(state=b"seen"), allow=pb.Allow())
    client = raw()
    client.service()
    client.probe("alice", key)
    client.probe("alice", key)
    client.try_key("alice", key)
    assert [request.context.state for request in policy.requests("ValidatePublicKey")] == [b"", b"", b""]
    assert policy.wait_for("AuthCompleted").context.state == b"seen"


def test_state_may_be_emptied(policy: Policy, raw: Raw) -> None:
    policy.on.ConnectionMade = pb.ConnectionMadeAnswer(common=pb.Common(state=b"x"), allow=pb.Allow())
    policy.on.BeginAuth = not_required(common=pb.Common(state=b""))
    raw().login()
    assert policy.wait_for("AuthCompleted").context.state == b""


def test_state_beyond_4_kib_refuses(policy: Policy, raw: Raw) -> None:
    policy.on.BeginAuth = not_required(common=pb.Common(state=b"x" * 4097))
    client = raw()
    client.service()
    client.send(client.auth_message("alice", "none"))
    assert client.expect_end()
    policy.on.BeginAuth = not_required(common=pb.Common(state=b"x" * 4096))
    raw().login()


# ---- ConnectionMade


def test_connection_denied_with_words(policy: Policy, ssh: OpenSsh) -> None:
    policy.on.ConnectionMade = pb.ConnectionMadeAnswer(deny=pb.Deny(message="not from there"))
    result = ssh.run("x")
    assert result.status == 255 and "not from there" in result.err, result
    assert "BeginAuth" not in policy.names()


def test_login_waits_for_connection_made(policy: Policy, raw: Raw) -> None:
    open_house(policy, cat)
    gate = policy.gate()
    policy.on.ConnectionMade = after(gate, pb.ConnectionMadeAnswer(allow=pb.Allow()))
    client = raw()
    client.send_all(bytes([5]) + b"\0\0\0\x0cssh-userauth", client.auth_message("alice", "none"))
    policy.wait_for("ConnectionMade")
    client.quiet(0.3)
    assert "BeginAuth" not in policy.names()
    gate.open()
    assert client.expect(6) and client.expect(52)


# ---- AuthCompleted


@pytest.mark.parametrize("answer", [pb.AuthCompletedAnswer(deny=pb.Deny(message="no licence left")), pb.AuthCompletedAnswer()])
def test_auth_completed_without_allow_disconnects(policy: Policy, daemon: Daemon, raw: Raw, answer: Any) -> None:
    open_house(policy, cat)
    policy.on.AuthCompleted = answer
    client = raw()
    client.service()
    client.send(client.auth_message("alice", "none"))
    assert client.expect(52)
    client.send(client.open_message())
    end = client.expect_disconnect()
    assert end.reason and end.reason.startswith(answer.deny.message)
    assert "SessionRequested" not in policy.names()
    assert not daemon.events("login")


def test_auth_completed_denial_is_shown_by_openssh(policy: Policy, ssh: OpenSsh) -> None:
    open_house(policy, cat)
    policy.on.AuthCompleted = pb.AuthCompletedAnswer(deny=pb.Deny(message="no licence left"))
    result = ssh.run("x")
    assert result.status == 255 and "no licence left" in result.err, result


def test_channels_wait_for_auth_completed(policy: Policy, raw: Raw) -> None:
    open_house(policy, cat)
    gate = policy.gate()
    policy.on.AuthCompleted = after(gate, pb.AuthCompletedAnswer(allow=pb.Allow()))
    client = raw()
    client.service()
    client.send(client.auth_message("alice", "none"))
    assert client.expect(52)
    client.send(client.open_message())
    policy.wait_for("AuthCompleted")
    client.quiet(0.3)
    assert "SessionRequested" not in policy.names()
    gate.open()
    assert client.expect(91)


def test_limits_of_auth_completed_hold(policy: Policy, raw: Raw) -> None:
    open_house(policy, cat)
    policy.on.AuthCompleted = pb.AuthCompletedAnswer(allow=pb.Allow(), limits=pb.Limits(max_sessions=1))
    client = raw().login()
    client.open(channel=0)
    client.send(client.open_message(channel=1))
    assert client.expect(92).u32() == 1


def test_a_lifetime_ends_the_connection(policy: Policy, raw: Raw) -> None:
    open_house(policy, cat)
    policy.on.AuthCompleted = pb.AuthCompletedAnswer(allow=pb.Allow(expires_in_s=1))
    client = raw().login()
    with pytest.raises(Disconnected) as end:
        client.execute()
        client.until()
    assert end.value.code == 11


@pytest.mark.parametrize("addresses,good", [(["127.0.0.0/8"], True), (["10.0.0.0/8"], False), ([], False), (["127.0.0.1", "!127.0.0.0/8"], False)])
def test_source_addresses_of_a_grant(policy: Policy, raw: Raw, addresses: list[str], good: bool) -> None:
    policy.on.BeginAuth = begin(PASSWORD)
    restrictions = pb.Restrictions(source_addresses=pb.Patterns(patterns=addresses))
    policy.on.ValidatePassword = password_ok(restrictions=restrictions)
    client = raw()
    client.service()
    assert client.try_password("alice", "x").type == (52 if good else 51)
