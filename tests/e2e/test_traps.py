"""What others fell for, by number: a login's order, its encodings, its counts, and what it tells of users that do not exist."""

from __future__ import annotations

from typing import Any, Callable

import pytest

from harness import wire
from harness.answers import (
    KBDINT,
    PASSWORD,
    PUBLICKEY,
    begin,
    challenge,
    change_required,
    kbdint_no,
    kbdint_ok,
    key_no,
    key_ok,
    not_required,
    partial,
    password_house,
    password_no,
    password_ok,
    supported,
)
from harness.contract import pb
from harness.daemon import Daemon, is_sanitized, rss_kib
from harness.policy import Policy, hang
from harness.rawclient import RawClient, UserKey
from harness.rawssh import Closed, Disconnected
from harness.wire import Reader, boolean, string, u32

Raw = Callable[..., RawClient]

EVERY_METHOD = (PUBLICKEY, KBDINT, PASSWORD)
CREDENTIALS = {"ValidatePublicKey", "ValidateCaKey", "ValidatePassword", "ChangePassword", "GetKbdintChallenge", "ValidateKbdintResponse"}


def yes_house(policy: Policy) -> Policy:
    """Every credential is good."""
    policy.on.BeginAuth = begin(*EVERY_METHOD)
    policy.on.ValidatePublicKey = key_ok()
    policy.on.ValidatePassword = policy.on.ChangePassword = password_ok()
    policy.on.GetKbdintChallenge = challenge("Code: ")
    policy.on.ValidateKbdintResponse = kbdint_ok()
    policy.on.SessionRequested = pb.SessionAnswer(accept=pb.Accept())
    return policy


# ---- T5 and T6: messages of the connection before login, and messages of a server


def bring_to(state: str, policy: Policy, client: RawClient) -> RawClient:
    """A client that is not logged in, in one of the states that a login has."""
    if state != "new":
        client.service()
    if state == "failed":
        policy.on.ValidatePassword = password_no()
        assert client.try_password("alice", "no").type == wire.USERAUTH_FAILURE
    if state == "probed":
        assert client.probe("alice", UserKey()).type == wire.PK_OK
    if state == "pending":
        policy.on.ValidatePassword = hang
        client.send(client.password_message("alice", "x"))
        policy.wait_for("ValidatePassword")
    if state == "partial":
        policy.on.ValidatePassword = pb.PasswordAnswer(partial=partial(PUBLICKEY, KBDINT))
        assert client.try_password("alice", "x").type == wire.USERAUTH_FAILURE
    if state == "change":
        policy.on.ValidatePassword = change_required()
        assert client.try_password("alice", "x").type == wire.PASSWD_CHANGEREQ
    if state in ("dialogue", "responded"):
        policy.on.ValidateKbdintResponse = hang
        assert client.try_kbdint().type == wire.INFO_REQUEST
    if state == "responded":
        client.send(client.responses_message("x"))
        policy.wait_for("ValidateKbdintResponse")
    return client


STATES = ["new", "service", "failed", "probed", "pending", "partial", "change", "dialogue", "responded"]

CONNECTION_MESSAGES = {number: bytes([number]) + u32(0) * 4 for number in range(80, 101)} | {
    80: bytes([80]) + string("tcpip-forward") + boolean(True) + string("") + u32(0),
    90: RawClient.open_message(),
    94: bytes([94]) + u32(0) + string("x"),
    95: bytes([95]) + u32(0) + u32(1) + string("x"),
    98: RawClient.request_message(0, "exec", string("id")),
}


@pytest.mark.parametrize("state", STATES)
def test_t05_connection_messages_before_login_disconnect(policy: Policy, raw: Raw, state: str) -> None:
    for number, message in CONNECTION_MESSAGES.items():
        client = bring_to(state, yes_house(policy), raw())
        client.send(message)
        assert client.expect_disconnect().code == 2, number
        client.close()
    direct = RawClient.open_message("direct-tcpip", rest=string("127.0.0.1") + u32(22) + string("127.0.0.1") + u32(1))
    client = bring_to(state, yes_house(policy), raw())
    client.send_all(direct, direct)
    assert client.expect_disconnect().code == 2
    assert set(policy.names()) <= CREDENTIALS | {"ConnectionMade", "BeginAuth", "ConnectionLost"}


SERVER_MESSAGES = {
    "failure": bytes([51]) + string("") + boolean(False),
    "success": bytes([52]),
    "banner": bytes([53]) + string("hello") + string(""),
    "pk-ok": bytes([60]) + string("ssh-ed25519") + string("x"),
    "info-request": bytes([60]) + string("") * 3 + u32(0),
    "service-accept": bytes([6]) + string("ssh-userauth"),
    "kex-reply": bytes([31]) + string("x") * 3,
    "newkeys": bytes([21]),
}


@pytest.mark.parametrize("kind", SERVER_MESSAGES)
@pytest.mark.parametrize("state", STATES)
def test_t06_the_servers_own_messages_disconnect(policy: Policy, daemon: Daemon, raw: Raw, state: str, kind: str) -> None:
    client = bring_to(state, yes_house(policy), raw())
    client.send(SERVER_MESSAGES[kind])
    assert client.expect_disconnect().code in (2, 3)
    assert not {"AuthCompleted", "SessionRequested"} & set(policy.names())
    assert not daemon.events("login")


# ---- T7: what is not offered does not work

ATTEMPTS = {
    "probe": ("publickey", lambda client, key: client.probe("alice", key)),
    "signed": ("publickey", lambda client, key: client.try_key("alice", key)),
    "password": ("password", lambda client, key: client.try_password("alice", "x")),
    "change": ("password", lambda client, key: client.ask(client.change_message("alice", "x", "y"))),
    "kbdint": ("keyboard-interactive", lambda client, key: client.try_kbdint()),
    "hostbased": ("hostbased", lambda client, key: client.ask(client.auth_message("alice", "hostbased", string("ssh-ed25519") + string(key.blob) + string("h") + string("u") + string("s")))),
    "gssapi": ("gssapi-with-mic", lambda client, key: client.ask(client.auth_message("alice", "gssapi-with-mic", u32(0)))),
}  # fmt: skip
METHOD_OF = {"publickey": PUBLICKEY, "password": PASSWORD, "keyboard-interactive": KBDINT}


@pytest.mark.parametrize("attempt", ATTEMPTS)
@pytest.mark.parametrize("how", ["begin", "supported", "partial"])
def test_t07_a_method_that_is_not_offered_reaches_nobody(policy: Policy, raw: Raw, how: str, attempt: str) -> None:
    """Neither if BeginAuth leaves it out, nor if its Supported handler says no, nor if a partial success does not name it."""
    name, tries = ATTEMPTS[attempt]
    yes_house(policy)
    others = [method for method in EVERY_METHOD if method != METHOD_OF.get(name)]
    client = raw()
    client.service()
    if how == "begin":
        policy.on.BeginAuth = begin(*others)
    elif how == "supported":
        policy.on.BeginAuth = pb.BeginAuthAnswer()
        handlers = {"publickey": "PublicKey", "password": "Password", "keyboard-interactive": "Kbdint", "hostbased": "HostBased"}
        for method, handler in handlers.items():
            setattr(policy.on, f"{handler}AuthSupported", supported(method != name))
    else:
        first = PASSWORD if name != "password" else KBDINT
        policy.on.ValidatePassword = pb.PasswordAnswer(partial=partial(*[method for method in others if method != first]))
        policy.on.GetKbdintChallenge = pb.KbdintAnswer(partial=partial(PUBLICKEY))
        reply = client.try_password("alice", "x") if first == PASSWORD else client.try_kbdint()
        assert reply.type == wire.USERAUTH_FAILURE
    before = policy.names()
    failure = tries(client, UserKey())
    assert failure.type == wire.USERAUTH_FAILURE and name not in failure.names()
    assert not CREDENTIALS & set(policy.names()[len(before) :])
    assert "AuthCompleted" not in policy.names()


# ---- T11: encodings

BROKEN = {"not-utf8": b"\xff", "nul": b"root\0x", "nul-alone": b"\0", "cut": b"\xc3", "overlong": b"\xc0\xaf", "surrogate": b"\xed\xa0\x80", "64k": b"a" * 65536}
EXACT = ["", " ", "root ", "ROOT", "ro\u200bot", "ﬁ", "e\u0301", "\u00e9", "‮toor", "a\nb\r\x1b[2J", "x" * 1024, "☃" * 341]


@pytest.mark.parametrize("kind", BROKEN)
def test_t11_broken_user_names_disconnect_unasked(policy: Policy, raw: Raw, kind: str) -> None:
    yes_house(policy)
    for method in ("none", "password", "keyboard-interactive", "publickey"):
        client = raw()
        client.service()
        client.send(client.auth_message(BROKEN[kind], method, boolean(False) + string("x")))
        assert client.expect_disconnect().code == 15
    assert set(policy.names()) <= {"ConnectionMade", "ConnectionLost"}


@pytest.mark.parametrize("kind", BROKEN)
def test_t11_broken_secrets_and_hints_fail_unasked(policy: Policy, raw: Raw, kind: str) -> None:
    yes_house(policy)
    bad = BROKEN[kind]
    messages = [
        RawClient.password_message("alice", bad),
        RawClient.change_message("alice", bad, "new"),
        RawClient.change_message("alice", "old", bad),
        RawClient.kbdint_message("alice", submethods=bad),
        RawClient.kbdint_message("alice", language=bad),
    ]
    for tied in (False, True):
        policy.on.BeginAuth = begin(*EVERY_METHOD, tie_kbdint_to_password=tied)
        client = raw()
        client.service()
        for message in messages[tied:]:
            assert client.ask(message).type == wire.USERAUTH_FAILURE
        assert client.try_kbdint().type == wire.INFO_REQUEST
        client.send(client.responses_message(bad))
        if tied:
            assert client.verdict().type == wire.USERAUTH_FAILURE
        else:
            assert client.expect_disconnect().code == 14  # the sixth
    assert policy.names().count("GetKbdintChallenge") == 1
    assert CREDENTIALS & set(policy.names()) == {"GetKbdintChallenge"}


@pytest.mark.parametrize("text", EXACT, ids=[f"{i}" for i in range(len(EXACT))])
def test_t11_what_is_decided_is_what_was_sent(policy: Policy, raw: Raw, text: str) -> None:
    """Names, passwords, responses and hints reach the policy byte by byte, and the login is that name's."""
    yes_house(policy)
    client = raw()
    client.service()
    policy.on.ValidatePassword = password_no()
    assert client.try_password(text, text).type == wire.USERAUTH_FAILURE
    assert client.try_kbdint(text, submethods=text, language=text).type == wire.INFO_REQUEST
    assert client.respond(text).type == wire.USERAUTH_SUCCESS
    assert policy.wait_for("AuthCompleted").context.user == text
    assert policy.wait_for("ValidatePassword").password == text
    hints = policy.wait_for("GetKbdintChallenge")
    assert (hints.submethods, hints.language) == (text, text)
    assert list(policy.wait_for("ValidateKbdintResponse").responses) == [text]
    assert {request.context.user for name in ("BeginAuth", "ValidatePassword", "GetKbdintChallenge") for request in policy.requests(name)} == {text}


# ---- T15: pipelined requests


def held(policy: Policy, name: str, answer: Any) -> Any:
    """A gate before this handler's answer."""
    gate = policy.gate()

    async def handler(_request: Any, _context: Any) -> Any:
        await gate.passed()
        return answer

    setattr(policy.on, name, handler)
    return gate


FIRST = {
    "BeginAuth": (RawClient.auth_message("guest", "none"), not_required()),
    "PasswordAuthSupported": (RawClient.password_message("guest", "x"), supported()),
    "ValidatePassword": (RawClient.password_message("guest", "x"), password_ok()),
    "ChangePassword": (RawClient.change_message("guest", "x", "y"), password_ok()),
    "GetKbdintChallenge": (RawClient.kbdint_message("guest"), kbdint_ok()),
}
BEHIND = [RawClient.auth_message("admin", "none"), RawClient.password_message("admin", "x"), RawClient.kbdint_message("guest")]


@pytest.mark.parametrize("name", FIRST)
def test_t15_pipelined_requests_wait_and_are_ignored_after_a_success(policy: Policy, daemon: Daemon, raw: Raw, name: str) -> None:
    message, answer = FIRST[name]
    yes_house(policy)
    if name == "PasswordAuthSupported":
        policy.on.BeginAuth = pb.BeginAuthAnswer()
    gate = held(policy, name, answer)
    client = raw()
    client.service()
    client.send_all(message, *BEHIND)
    policy.wait_for(name)
    asked = policy.names()
    client.quiet(0.3)
    assert policy.names() == asked  # nobody was asked about a later one
    gate.open()
    assert client.until(wire.USERAUTH_SUCCESS)
    client.open()  # no second reply comes before
    assert [request.context.user for request in policy.requests("AuthCompleted")] == ["guest"]
    assert {request.context.user for request in policy.requests("BeginAuth")} == {"guest"}
    assert len(daemon.events("login")) == 1


def test_t15_each_of_a_row_is_decided_under_its_own_name(policy: Policy, raw: Raw) -> None:
    """Eight requests of three names: as many replies, in order, and only carol's password lets anybody in - as carol."""
    policy.on.BeginAuth = begin(PASSWORD)
    policy.on.ValidatePassword = lambda request, _: password_ok() if (request.context.user, request.password) == ("carol", "c") else password_no(request.context.user)
    gate = held(policy, "ConnectionMade", pb.ConnectionMadeAnswer(allow=pb.Allow()))
    client = raw()
    row = [("alice", "c"), ("bob", "c"), ("carol", "b"), ("alice", "a"), ("carol", "c"), ("alice", "c")]
    client.send_all(bytes([wire.SERVICE_REQUEST]) + string("ssh-userauth"), *[client.password_message(user, secret) for user, secret in row])
    policy.wait_for("ConnectionMade")
    assert policy.names() == ["ConnectionMade"]
    gate.open()
    client.expect(wire.SERVICE_ACCEPT)
    assert [client.verdict().type for _ in range(5)] == [51, 51, 51, 51, 52]
    assert [text.strip() for text in client.banners] == ["alice", "bob", "carol", "alice"]
    assert policy.wait_for("AuthCompleted").context.user == "carol"
    assert [(request.context.user, request.password) for request in policy.requests("ValidatePassword")] == row[:5]
    assert [request.context.user for request in policy.requests("BeginAuth")] == ["alice", "bob", "carol", "alice", "carol"]


# ---- T16: counts of keyboard-interactive


@pytest.mark.parametrize("prompts,given", [(1, 0), (1, 2), (2, 1), (0, 1), (3, 10_000), (64, 63)])
@pytest.mark.parametrize("tied", [False, True])
def test_t16_wrong_counts_of_responses_are_denied_unasked(policy: Policy, raw: Raw, tied: bool, prompts: int, given: int) -> None:
    given += tied and given == 1
    yes_house(policy)
    policy.on.BeginAuth = begin(*EVERY_METHOD, tie_kbdint_to_password=tied)
    policy.on.GetKbdintChallenge = challenge(*["?"] * prompts)
    client = raw()
    client.service()
    asked = client.try_kbdint()
    assert asked.type == wire.INFO_REQUEST
    asked.string(), asked.string(), asked.string()
    assert asked.u32() == (1 if tied else prompts)
    assert client.respond(*["x"] * given).type == wire.USERAUTH_FAILURE
    assert not {"ValidateKbdintResponse", "ValidatePassword", "AuthCompleted"} & set(policy.names())


LIES = {"more-than-said": RawClient.responses_message("a", "b", count=1), "less-than-said": RawClient.responses_message(count=1), "huge": RawClient.responses_message("a", count=0xFFFFFFFF), "empty": bytes([wire.INFO_RESPONSE])}


@pytest.mark.parametrize("lie", LIES)
def test_t16_counts_that_lie(policy: Policy, raw: Raw, lie: str) -> None:
    client = raw()
    bring_to("dialogue", yes_house(policy), client)
    client.send(LIES[lie])
    if lie == "huge":  # not the count that was asked for
        assert client.verdict().type == wire.USERAUTH_FAILURE
    else:
        assert client.expect_disconnect().code == 2
    assert not {"ValidateKbdintResponse", "AuthCompleted"} & set(policy.names())


@pytest.mark.parametrize("state", ["service", "failed", "probed", "pending", "partial", "change", "responded"])
def test_t16_responses_that_nobody_asked_for(policy: Policy, raw: Raw, state: str) -> None:
    client = bring_to(state, yes_house(policy), raw())
    asked = policy.names()
    client.send_all(*[client.responses_message("x")] * 100)
    for _ in range(100):
        assert client.expect(wire.UNIMPLEMENTED)
    assert policy.names() == asked


def test_t16_ten_thousand_devices_are_one_attempt(policy: Policy, daemon: Daemon, raw: Raw) -> None:
    """CVE-2015-5600: each name in the list was a new chance there."""
    yes_house(policy)
    policy.on.ValidateKbdintResponse = kbdint_no()
    client = raw()
    client.service()
    before = rss_kib(daemon.pid)
    assert client.try_kbdint(submethods=",".join(["pam"] * 10_000)).type == wire.USERAUTH_FAILURE
    assert not policy.requests("GetKbdintChallenge")
    for _ in range(4):
        assert client.try_kbdint(submethods=",".join(["pam"] * 256)).type == wire.INFO_REQUEST
        assert client.respond("x").type == wire.USERAUTH_FAILURE
    assert client.try_kbdint().type == wire.INFO_REQUEST
    client.send(client.responses_message("x"))
    assert client.expect_disconnect().code == 14  # six failures, as with any method
    assert len(policy.requests("ValidateKbdintResponse")) == 5
    assert is_sanitized(daemon.pid) or rss_kib(daemon.pid) - before < 4 * 1024


def test_t16_a_dialogue_that_never_ends_is_ended(policy: Policy, raw: Raw) -> None:
    yes_house(policy)
    policy.on.ValidateKbdintResponse = challenge("Again: ")
    client = raw()
    client.service()
    assert client.try_kbdint().type == wire.INFO_REQUEST
    for _ in range(39):
        assert client.respond("x").type == wire.INFO_REQUEST
    client.send(client.responses_message("x"))
    assert client.expect_disconnect().code == 14
    assert len(policy.requests("ValidateKbdintResponse")) == 39


def test_t16_a_challenge_of_too_many_prompts_refuses(policy: Policy, raw: Raw) -> None:
    yes_house(policy)
    policy.on.GetKbdintChallenge = challenge(*["?"] * 65)
    client = raw()
    client.service()
    assert client.try_kbdint().type == wire.USERAUTH_FAILURE
    client.send(client.responses_message(*["x"] * 65))
    assert client.expect(wire.UNIMPLEMENTED)


# ---- T17: users that do not exist


def person(request: Any, known: Any, unknown: Any) -> Any:
    return known if request.context.user == "alice" else unknown


def guarded_house(policy: Policy) -> None:
    """Knows alice only, and says nothing of that to anybody."""
    password_house(policy)
    policy.on.BeginAuth = begin(*EVERY_METHOD)
    policy.on.ValidatePublicKey = key_no()
    policy.on.ChangePassword = password_no()
    policy.on.GetKbdintChallenge = challenge("Code: ")
    policy.on.ValidateKbdintResponse = lambda request, _: person(request, kbdint_no(), kbdint_no())


def open_house_with_supported(policy: Policy) -> None:
    guarded_house(policy)
    policy.on.BeginAuth = pb.BeginAuthAnswer()
    policy.on.PublicKeyAuthSupported = policy.on.PasswordAuthSupported = policy.on.HostBasedAuthSupported = supported()
    policy.on.KbdintAuthSupported = pb.SupportedAnswer(support=pb.SUPPORT_TIED_TO_PASSWORD)


def attack(client: RawClient, user: str, key: UserKey) -> list[bytes]:
    """Every message of the server, whole, while somebody tries everything."""
    client.service()
    tries: list[Callable[[], Reader]] = [
        lambda: client.try_none(user),
        lambda: client.probe(user, key),
        lambda: client.try_key(user, key),
        lambda: client.try_password(user, "x"),
        lambda: client.ask(client.change_message(user, "x", "y")),
        lambda: client.try_kbdint(user),
        lambda: client.respond("x"),
    ]
    seen = [trial().message for trial in tries]
    client.send(client.password_message(user, "x"))
    try:
        seen.append(client.verdict().message)
    except (Disconnected, Closed) as end:
        seen.append(str(end).encode())
    return [*seen, *[text.encode() for text in client.banners]]


@pytest.mark.parametrize("house", [guarded_house, open_house_with_supported])
def test_t17_unknown_users_meet_the_same_questions_and_packets(policy: Policy, raw: Raw, house: Callable[[Policy], None]) -> None:
    house(policy)
    key = UserKey()
    seen: dict[str, list[bytes]] = {}
    asked: dict[str, list[str]] = {}
    for user in ("alice", "nobody"):
        before = len(policy.names())
        client = raw()
        seen[user] = attack(client, user, key)
        client.close()
        policy.wait_for("ConnectionLost", len(seen))
        asked[user] = policy.names()[before:]
    assert seen["alice"] == seen["nobody"]
    assert asked["alice"] == asked["nobody"]
