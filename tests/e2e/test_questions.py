"""Who is asked what, in which order and how often, for what a client sends; and what the client is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable

import pytest

from harness.answers import (
    KBDINT,
    PASSWORD,
    PUBLICKEY,
    begin,
    challenge,
    change_required,
    key_no,
    key_ok,
    kbdint_no,
    kbdint_ok,
    methods,
    not_required,
    partial,
    password_no,
    password_ok,
    supported,
)
from harness.contract import pb
from harness.daemon import Daemon
from harness.policy import Policy
from harness.rawclient import RawClient, UserKey
from harness.wire import boolean, said, string

Raw = Callable[..., RawClient]

KEY = UserKey()
OPEN = pb.BeginAuthAnswer()  # names no methods: the Supported handlers are asked
TIED = pb.SupportedAnswer(support=pb.SUPPORT_TIED_TO_PASSWORD)
YES, NO = supported(), supported(False)
# Those with a Supported handler, in the order in which methods are listed.
LIST = ["PublicKeyAuthSupported", "KbdintAuthSupported", "PasswordAuthSupported"]
ALL = "publickey,keyboard-interactive,password"


def none(user: str) -> bytes:
    return RawClient.auth_message(user, "none")


def password(user: str, secret: str = "no") -> bytes:
    return RawClient.password_message(user, secret)


def change(user: str) -> bytes:
    return RawClient.change_message(user, "old", "new")


def kbdint(user: str) -> bytes:
    return RawClient.kbdint_message(user)


def probe(user: str) -> bytes:
    return RawClient.auth_message(user, "publickey", boolean(False) + string(KEY.algorithm) + string(KEY.blob))


def responses(*texts: str) -> bytes:
    return RawClient.responses_message(*texts)


def by_password(request: Any, _context: Any) -> Any:
    return {"yes": password_ok(), "expired": change_required(), "half": pb.PasswordAnswer(partial=partial(KBDINT))}.get(
        request.password, password_no()
    )


def by_responses(request: Any, _context: Any) -> Any:
    texts = list(request.responses)
    return kbdint_ok() if texts == ["yes"] else challenge("Again: ") if texts == ["more"] else kbdint_no()


def policy_of(**handlers: Any) -> dict[str, Any]:
    """Everything is offered, "yes" is the password and the response of everybody, keys are good for nothing."""
    return {
        "ConnectionMade": pb.ConnectionMadeAnswer(allow=pb.Allow()),
        "BeginAuth": OPEN,
        "HostBasedAuthSupported": NO,
        "PublicKeyAuthSupported": YES,
        "KbdintAuthSupported": YES,
        "PasswordAuthSupported": YES,
        "ValidatePublicKey": key_no(),
        "ValidatePassword": by_password,
        "ChangePassword": password_no(),
        "GetKbdintChallenge": challenge("Code: "),
        "ValidateKbdintResponse": by_responses,
        "AuthCompleted": pb.AuthCompletedAnswer(allow=pb.Allow()),
    } | handlers


@dataclass
class Case:
    """`asked`: "Handler user", or names of LIST for the user of the request."""

    what: str
    sent: list[bytes]
    told: list[str]
    asked: list[str]
    policy: dict[str, Any] = field(default_factory=policy_of)
    dialogue: bool = False  # cannot be sent at once


def listed(user: str, *names: str) -> list[str]:
    return [f"{name} {user}" for name in names or LIST]


CASES = [
    Case("an empty BeginAuth asks for each list", [none("a"), none("a")], [f"failure {ALL}"] * 2, ["BeginAuth a", *listed("a"), *listed("a")]),
    Case(
        "methods named in advance spare the questions",
        [none("a"), password("a"), password("a", "yes")],
        ["failure password", "failure password", "success"],
        ["BeginAuth a", "ValidatePassword a", "ValidatePassword a", "AuthCompleted a"],
        policy_of(BeginAuth=begin(PASSWORD)),
    ),
    Case(
        "first need asks about this method only",
        [password("a", "yes")],
        ["success"],
        ["BeginAuth a", "PasswordAuthSupported a", "ValidatePassword a", "AuthCompleted a"],
    ),
    Case(
        "what a list has told is known at the next need",
        [none("a"), password("a"), password("a", "yes")],
        [f"failure {ALL}", f"failure {ALL}", "success"],
        ["BeginAuth a", *listed("a"), "ValidatePassword a", *listed("a"), "ValidatePassword a", "AuthCompleted a"],
    ),
    Case(
        "each name begins anew, also the empty one and one that was there before",
        [none("a"), none(""), none("a"), none("A"), none("a ")],
        ["failure password"] * 5,
        ["BeginAuth a", "BeginAuth ", "BeginAuth a", "BeginAuth A", "BeginAuth a "],
        policy_of(BeginAuth=begin(PASSWORD)),
    ),
    Case("the empty name is a name from the start", [none(""), none("")], ["failure password"] * 2, ["BeginAuth "], policy_of(BeginAuth=begin(PASSWORD))),
    Case(
        "what is known of one name is not known of the next",
        [password("a"), password("b", "yes")],
        [f"failure {ALL}", "success"],
        ["BeginAuth a", "PasswordAuthSupported a", "ValidatePassword a", *listed("a"), "BeginAuth b", "PasswordAuthSupported b", "ValidatePassword b", "AuthCompleted b"],
    ),
    Case(
        "a method that is not offered reaches nobody",
        [password("a", "yes"), change("a"), kbdint("a"), probe("a")],
        ["failure "] * 4,
        ["BeginAuth a"],
        policy_of(BeginAuth=begin()),
    ),
    Case(
        "nor does one that the Supported handlers refuse",
        [password("a", "yes"), kbdint("a")],
        ["failure publickey"] * 2,
        ["BeginAuth a", "PasswordAuthSupported a", *listed("a"), *listed("a")],
        policy_of(PasswordAuthSupported=NO, KbdintAuthSupported=NO),
    ),
    Case("unknown methods get the list", [RawClient.auth_message("a", "x")], [f"failure {ALL}"], ["BeginAuth a", *listed("a")]),
    Case("no credential wanted: nothing else is asked", [password("a")], ["success"], ["BeginAuth a", "AuthCompleted a"], policy_of(BeginAuth=not_required())),
    Case(
        "a probe and a denial",
        [probe("a"), probe("a")],
        ["failure publickey"] * 2,
        ["BeginAuth a", "ValidatePublicKey a", "ValidatePublicKey a"],
        policy_of(BeginAuth=begin(PUBLICKEY)),
    ),
    Case(
        "nothing of a probe is kept",
        [probe("a"), probe("a")],
        ["60"] * 2,
        ["BeginAuth a", "PublicKeyAuthSupported a", "ValidatePublicKey a", "ValidatePublicKey a"],
        policy_of(ValidatePublicKey=key_ok()),
    ),
    Case(
        "a password change is asked for, and its own question",
        [password("a", "expired"), change("a"), change("a")],
        ["60", "60", "60"],
        ["BeginAuth a", "ValidatePassword a", "ChangePassword a", "ChangePassword a"],
        policy_of(BeginAuth=begin(PASSWORD), ChangePassword=change_required()),
    ),
    Case(
        "a change that nobody asked for",
        [change("a")],
        ["success"],
        ["BeginAuth a", "ChangePassword a", "AuthCompleted a"],
        policy_of(BeginAuth=begin(PASSWORD), ChangePassword=password_ok()),
    ),
    Case(
        "after a partial success only what remains, and no Supported question",
        [password("a", "half"), password("a", "yes"), kbdint("a"), responses("yes")],
        ["partial keyboard-interactive", "failure keyboard-interactive", "60", "success"],
        ["BeginAuth a", "ValidatePassword a", "GetKbdintChallenge a", "ValidateKbdintResponse a", "AuthCompleted a"],
        policy_of(BeginAuth=begin(KBDINT, PASSWORD)),
        dialogue=True,
    ),
    Case(
        "required sets are seen to without a question",
        [kbdint("a"), responses("yes"), password("a", "yes")],
        ["60", "partial password", "success"],
        ["BeginAuth a", "GetKbdintChallenge a", "ValidateKbdintResponse a", "ValidatePassword a", "AuthCompleted a"],
        policy_of(BeginAuth=begin(KBDINT, PASSWORD, required=[methods(KBDINT, PASSWORD)])),
        dialogue=True,
    ),
    Case(
        "a series of challenges",
        [kbdint("a"), responses("more"), responses("more"), responses("no"), kbdint("a"), responses("yes")],
        ["60", "60", "60", f"failure {ALL}", "60", "success"],
        ["BeginAuth a", "KbdintAuthSupported a", "GetKbdintChallenge a", *["ValidateKbdintResponse a"] * 3, *listed("a"), "GetKbdintChallenge a", "ValidateKbdintResponse a", "AuthCompleted a"],
        dialogue=True,
    ),
    Case(
        "a tied dialogue asks about the password, once each",
        [kbdint("a"), responses("no"), kbdint("a"), responses("yes")],
        ["60", f"failure {ALL}", "60", "success"],
        ["BeginAuth a", "KbdintAuthSupported a", "PasswordAuthSupported a", "ValidatePassword a", *listed("a"), "ValidatePassword a", "AuthCompleted a"],
        policy_of(KbdintAuthSupported=TIED),
        dialogue=True,
    ),
    Case(
        "a tie without passwords is no method",
        [kbdint("a"), password("a", "yes")],
        ["failure publickey"] * 2,
        ["BeginAuth a", "KbdintAuthSupported a", "PasswordAuthSupported a", *listed("a"), *listed("a")],
        policy_of(KbdintAuthSupported=TIED, PasswordAuthSupported=NO),
    ),
    Case(
        "a dialogue that is left is not answered, and another name begins anew",
        [kbdint("a"), kbdint("b"), password("b", "yes")],
        ["60", "60", "success"],
        ["BeginAuth a", "GetKbdintChallenge a", "BeginAuth b", "GetKbdintChallenge b", "ValidatePassword b", "AuthCompleted b"],
        policy_of(BeginAuth=begin(KBDINT, PASSWORD)),
    ),
]  # fmt: skip


def ways(case: Case) -> list[Any]:
    return [pytest.param(case, at_once, id=f"{case.what}{' (at once)' if at_once else ''}") for at_once in (False, True) if not (at_once and case.dialogue)]


@pytest.mark.parametrize("case,at_once", [way for case in CASES for way in ways(case)])
def test_questions(policy: Policy, raw: Raw, case: Case, at_once: bool) -> None:
    """Requests that come in one write are answered in order, each under its own name: nothing may differ (T15)."""
    for name, handler in case.policy.items():
        setattr(policy.on, name, handler)
    client = raw()
    client.service()
    if at_once:
        client.send_all(*case.sent)
        told = [said(client.verdict()) for _ in case.sent]
    else:
        told = [said(client.ask(message)) for message in case.sent]
    assert told == case.told
    if told[-1] == "success":
        policy.wait_for("AuthCompleted")
    with policy.board.look:
        asked = [f"{call.name} {call.request.context.user}" for call in policy.calls if call.name not in ("ConnectionMade", "HostBasedAuthSupported")]
    assert asked == case.asked


# ---- words for the user, and for nobody else


def with_banner(answer: Any, text: str) -> Any:
    copy = type(answer)()
    copy.CopyFrom(answer)
    copy.common.banner.text = text
    return copy


def test_banners_of_every_answer_come_in_order_and_before_the_reply(policy: Policy, raw: Raw) -> None:
    answers = policy_of(ValidatePassword=change_required(), ValidatePublicKey=key_ok(), ValidateKbdintResponse=kbdint_no(), ChangePassword=password_no())
    for name, answer in answers.items():
        if name != "AuthCompleted":
            answer = with_banner(answer, f"{name}\n")
        setattr(policy.on, name, answer)
    client = raw()
    client.service()

    def banners(message: bytes, reply: str) -> list[str]:
        assert said(client.ask(message)) == reply
        words, client.banners = client.banners, []
        return [text.strip() for text in words if text != "HostBasedAuthSupported\n"]

    assert banners(password("a"), "60") == ["ConnectionMade", "BeginAuth", "PasswordAuthSupported", "ValidatePassword"]
    assert banners(change("a"), f"failure {ALL}") == ["ChangePassword", *LIST]
    assert banners(probe("a"), "60") == ["ValidatePublicKey"]
    assert banners(kbdint("a"), "60") == ["GetKbdintChallenge"]
    assert banners(responses("x"), f"failure {ALL}") == ["ValidateKbdintResponse", *LIST]


DENIALS = {
    "password": ([password("alice", "cAnArY")], {"ValidatePassword": password_no("come on Monday")}),
    "change": ([RawClient.change_message("alice", "cAnArY", "cAnArY2")], {"ChangePassword": password_no("come on Monday")}),
    "kbdint": ([kbdint("alice")], {"GetKbdintChallenge": kbdint_no("come on Monday")}),
    "responses": ([kbdint("alice"), responses("cAnArY")], {"ValidateKbdintResponse": kbdint_no("come on Monday")}),
    "key": ([RawClient.auth_message("alice", "publickey", boolean(False) + string(KEY.algorithm) + string(KEY.blob))], {"ValidatePublicKey": key_no("come on Monday")}),
}


@pytest.mark.parametrize("kind", DENIALS)
def test_refusals_text_to_the_user_reason_to_the_log_secret_to_neither(policy: Policy, daemon: Daemon, raw: Raw, kind: str) -> None:
    sent, handlers = DENIALS[kind]
    for name, answer in policy_of(BeginAuth=begin(PUBLICKEY, KBDINT, PASSWORD), **handlers).items():
        if name in handlers:
            answer.common.log["why"] = "locked"
        setattr(policy.on, name, answer)
    client = raw()
    client.service()
    for message in sent:
        reply = client.ask(message)
    assert said(reply) == f"failure {ALL}"
    assert [text.strip() for text in client.banners] == ["come on Monday"]
    denied = daemon.wait_event("decision", verdict="deny")
    assert denied["rpc"] in handlers and denied["policy.why"] == "locked"
    assert daemon.wait_event("auth_attempt")["outcome"] == "failure"
    assert "canary" not in daemon.log.lower()
    assert not any("cAnArY" in text or "locked" in text for text in client.banners)
