"""Password logins: the right one, wrong ones, and what never even gets to be asked."""

from __future__ import annotations

import pytest

from harness.answers import KBDINT, PASSWORD, PUBLICKEY, begin, partial, password_house, password_no, password_ok, say, supported
from harness.clients import OpenSsh
from harness.contract import pb
from harness.daemon import Daemon
from harness.policy import Policy
from harness.wire import boolean, string


def test_right_password(policy: Policy, daemon: Daemon, ssh: OpenSsh) -> None:
    password_house(policy)
    policy.on.Channel = say(b"in\n")
    result = ssh.run("x", password="wonderland")
    assert (result.status, result.out) == (0, b"in\n"), result
    asked = policy.wait_for("ValidatePassword")
    assert (asked.context.user, asked.password) == ("alice", "wonderland")
    assert not asked.context.authenticated and not asked.context.passed
    completed = policy.wait_for("AuthCompleted").context
    assert completed.authenticated and [factor.method for factor in completed.passed] == [PASSWORD]
    daemon.wait_event("login")


def test_wrong_password(policy: Policy, daemon: Daemon, ssh: OpenSsh) -> None:
    password_house(policy)
    result = ssh.run("x", password="looking-glass")
    assert result.status == 255
    assert "Permission denied (password)" in result.err, result
    assert not daemon.events("login")
    assert not {"AuthCompleted", "SessionRequested"} & set(policy.names())


def test_denial_tells_why(policy: Policy, ssh: OpenSsh) -> None:
    policy.on.BeginAuth = begin(PASSWORD)
    policy.on.ValidatePassword = password_no("account locked until Monday")
    result = ssh.run("x", password="x")
    assert result.status == 255 and "account locked until Monday" in result.err, result


def test_second_try_works(policy: Policy, raw) -> None:
    password_house(policy)
    client = raw()
    client.service()
    assert client.try_password("alice", "no").type == 51
    assert client.try_password("alice", "wonderland").type == 52
    assert len(policy.requests("BeginAuth")) == 1


@pytest.mark.parametrize("password", ["", " ", " wonderland", "wonderland ", "WONDERLAND", "wonderland\n"])
def test_passwords_arrive_exactly(policy: Policy, raw, password: str) -> None:
    password_house(policy)
    client = raw()
    client.service()
    assert client.try_password("alice", password).type == 51
    assert policy.wait_for("ValidatePassword").password == password


@pytest.mark.parametrize("user,password", [("Ålîçé", "pässwörd ☃"), ("a b", "x"), ("root ", "x"), ("ﬁ", "x")])
def test_names_and_passwords_are_not_folded(policy: Policy, raw, user: str, password: str) -> None:
    """No SASLprep, no case folding, no trimming."""
    password_house(policy, user, password)
    client = raw()
    client.service()
    assert client.try_password(user, password).type == 52
    assert policy.wait_for("ValidatePassword").context.user == user


@pytest.mark.parametrize("password", [b"a\0b", b"\xff", b"x" * 1025], ids=["nul", "not-utf8", "too-long"])
def test_impossible_passwords_are_refused_unasked(policy: Policy, raw, password: bytes) -> None:
    policy.on.BeginAuth = begin(PASSWORD)
    policy.on.ValidatePassword = password_ok()
    client = raw()
    client.service()
    assert client.try_password("alice", password).type == 51
    assert not policy.requests("ValidatePassword")


def test_password_of_1024_bytes(policy: Policy, raw) -> None:
    policy.on.BeginAuth = begin(PASSWORD)
    policy.on.ValidatePassword = password_ok()
    client = raw()
    client.service()
    assert client.try_password("alice", "x" * 1024).type == 52


def test_password_change_is_asked_for_and_carried_out(policy: Policy, raw) -> None:
    policy.on.BeginAuth = begin(PASSWORD)
    policy.on.ValidatePassword = pb.PasswordAnswer(change_required=pb.PasswordChange(prompt="Change it", language="en"))
    policy.on.ChangePassword = lambda request, _: password_ok() if request.new_password == "new" else password_no()
    client = raw()
    client.service()
    request = client.try_password("alice", "old")
    assert (request.type, request.string(), request.string()) == (60, b"Change it", b"en")
    change = client.auth_message("alice", "password", boolean(True) + string("old") + string("new"))
    assert client.ask(change).type == 52
    asked = policy.wait_for("ChangePassword")
    assert (asked.old_password, asked.new_password) == ("old", "new")


def test_unwanted_change_without_a_handler_is_refused(policy: Policy, raw) -> None:
    password_house(policy)
    client = raw()
    client.service()
    change = client.auth_message("alice", "password", boolean(True) + string("wonderland") + string("new"))
    assert client.ask(change).type == 51


# ---- which methods


def test_password_off_is_never_asked(policy: Policy, raw) -> None:
    policy.on.BeginAuth = begin(PUBLICKEY)
    policy.on.ValidatePassword = password_ok()
    client = raw()
    client.service()
    failure = client.try_password("alice", "wonderland")
    assert (failure.type, failure.names()) == (51, ["publickey"])
    assert "ValidatePassword" not in policy.names()


@pytest.mark.parametrize(
    "with_keys,with_passwords,listed",
    [(True, True, ["publickey", "password"]), (True, False, ["publickey"]), (False, True, ["password"]), (False, False, [])],
)
def test_supported_handlers_make_the_list(policy: Policy, raw, with_keys: bool, with_passwords: bool, listed: list[str]) -> None:
    policy.on.BeginAuth = pb.BeginAuthAnswer(requirement=pb.REQUIREMENT_REQUIRED)
    policy.on.PublicKeyAuthSupported = supported(with_keys)
    policy.on.PasswordAuthSupported = supported(with_passwords)
    policy.on.ValidatePassword = password_no()
    client = raw()
    client.service()
    failure = client.try_none()
    names = failure.names()
    assert not failure.boolean()
    # keyboard-interactive without a handler is tied to password, once it is carried out
    assert [name for name in names if name != "keyboard-interactive"] == listed
    assert client.try_password("alice", "x").type == 51
    assert ("ValidatePassword" in policy.names()) is with_passwords


def test_supported_is_asked_again_for_each_list(policy: Policy, raw) -> None:
    policy.on.BeginAuth = pb.BeginAuthAnswer(requirement=pb.REQUIREMENT_REQUIRED)
    policy.on.PasswordAuthSupported = supported()
    policy.on.ValidatePassword = password_no()
    client = raw()
    client.service()
    client.try_none()
    policy.on.PasswordAuthSupported = supported(False)
    assert client.try_password("alice", "x").names() == []


def test_methods_named_by_begin_auth_spare_the_questions(policy: Policy, raw) -> None:
    policy.on.BeginAuth = begin(PASSWORD, PUBLICKEY)
    policy.on.ValidatePassword = password_no()
    client = raw()
    client.service()
    assert sorted(client.try_none().names()) == ["password", "publickey"]
    client.try_password("alice", "x")
    assert policy.names() == ["ConnectionMade", "BeginAuth", "ValidatePassword"]


def test_a_policy_with_nothing_offers_nothing(policy: Policy, raw) -> None:
    client = raw()
    client.service()
    failure = client.try_none()
    assert (failure.type, failure.names()) == (51, [])
    assert client.try_password("alice", "x").type == 51
    assert "ValidatePassword" not in policy.names()


@pytest.mark.parametrize("method", ["hostbased", "gssapi-with-mic", "gssapi-keyex", "nonsense", "", "PASSWORD"])
def test_methods_that_are_not_offered_fail(policy: Policy, raw, method: str) -> None:
    """Whatever BeginAuth named, a method that the daemon is not configured for is neither listed nor accepted."""
    policy.on.BeginAuth = begin(PASSWORD, *[v for v in pb.AuthMethod.values() if v not in (0, PUBLICKEY, PASSWORD, KBDINT, pb.AUTH_METHOD_HOSTBASED)])
    policy.on.ValidatePassword = password_ok()
    client = raw()
    client.service()
    rest = boolean(False) + string("wonderland") if method == "PASSWORD" else string("") + string("")
    failure = client.ask(client.auth_message("alice", method, rest))
    assert (failure.type, failure.names()) == (51, ["password"])


# ---- two factors


def test_partial_success_narrows_the_methods(policy: Policy, raw) -> None:
    policy.on.BeginAuth = begin(PASSWORD, PUBLICKEY)
    policy.on.ValidatePassword = pb.PasswordAnswer(partial=partial(PUBLICKEY))
    client = raw()
    client.service()
    failure = client.try_password("alice", "x")
    assert (failure.type, failure.names(), failure.boolean()) == (51, ["publickey"], True)
    assert client.try_password("alice", "x").type == 51
    assert len(policy.requests("ValidatePassword")) == 1


def test_one_method_counts_once(policy: Policy, raw) -> None:
    """A partial success that leaves only the method just used cannot be finished."""
    policy.on.BeginAuth = begin(PASSWORD)
    policy.on.ValidatePassword = pb.PasswordAnswer(partial=partial(PASSWORD))
    client = raw()
    client.service()
    client.send(client.password_message("alice", "x"))
    assert client.expect_end()


def test_partial_success_that_leaves_nothing_is_no_login(policy: Policy, raw) -> None:
    policy.on.BeginAuth = begin(PASSWORD)
    policy.on.ValidatePassword = pb.PasswordAnswer(partial=partial())
    client = raw()
    client.service()
    client.send(client.password_message("alice", "x"))
    assert client.expect_end()


def test_required_factors_hold_whatever_single_answers_say(policy: Policy, raw) -> None:
    policy.on.BeginAuth = begin(PASSWORD, PUBLICKEY, required=[pb.Methods(methods=[PASSWORD, PUBLICKEY])])
    policy.on.ValidatePassword = password_ok()
    client = raw()
    client.service()
    failure = client.try_password("alice", "x")
    assert (failure.type, failure.names(), failure.boolean()) == (51, ["publickey"], True)
