"""Each helper becomes the message of the RPC it is an answer to; everything else is an error, never a yes."""

import os
import pwd

import pytest

import parley
from parley._wire import SERVICE, message_class
from parley.answers import to_message

auth_pb2, common_pb2, login_pb2 = parley.auth_pb2, parley.common_pb2, parley.login_pb2


def build(value, rpc):
    return to_message(value, message_class(SERVICE.methods_by_name[rpc].output_type))


def test_allow():
    limited = parley.restrictions(
        force_command="id", permit_open=["db:5432"], permit_listen=[], no_pty=True
    )
    answer = build(parley.allow(restrictions=limited, expires_in_s=60), "ValidatePassword")
    assert answer.WhichOneof("outcome") == "allow"
    assert answer.allow.expires_in_s == 60
    got = answer.allow.restrictions
    assert got.force_command == b"id" and got.no_pty
    assert list(got.permit_open.patterns) == ["db:5432"]
    # Set and empty allows nothing; left out sets no limit.
    assert got.HasField("permit_listen") and not got.HasField("source_addresses")


def test_allow_without_arguments_sets_no_lifetime():
    assert build(parley.allow(), "PtyRequested").allow.WhichOneof("lifetime") is None


def test_allow_with_limits_and_supervision():
    yes = parley.allow(limits=parley.limits(max_sessions=2), supervise=True, on_loss="keep")
    answer = build(yes, "AuthCompleted")
    assert answer.limits.max_sessions == 2 and answer.supervise
    assert answer.supervise_on_loss == common_pb2.ON_LOSS_KEEP
    with pytest.raises(ValueError):
        build(yes, "ValidatePassword")  # has no place for limits


def test_deny_has_the_message():
    assert build(parley.deny("not today"), "ValidatePublicKey").deny.message == "not today"


def test_partial():
    answer = build(parley.partial("password", "keyboard-interactive"), "ValidatePublicKey")
    assert list(answer.partial.remaining) == [
        auth_pb2.AUTH_METHOD_PASSWORD,
        auth_pb2.AUTH_METHOD_KEYBOARD_INTERACTIVE,
    ]
    with pytest.raises(ValueError):
        parley.partial()
    with pytest.raises(KeyError):
        parley.partial("pasword")


def test_require_auth():
    answer = build(
        parley.require_auth(
            methods=["publickey", "password"],
            required=[["publickey", "password"]],
            authorized_keys="ssh-ed25519 AAAA",
            tie_kbdint_to_password=True,
        ),
        "BeginAuth",
    )
    assert answer.requirement == login_pb2.REQUIREMENT_REQUIRED
    assert len(answer.methods.methods) == 2 and len(answer.required[0].methods) == 2
    assert answer.authorized_keys == b"ssh-ed25519 AAAA" and answer.tie_kbdint_to_password


def test_require_auth_leaves_the_methods_unset():
    assert not build(parley.require_auth(), "BeginAuth").HasField("methods")
    assert build(parley.require_auth(methods=[]), "BeginAuth").HasField("methods")


def test_no_auth_required():
    answer = build(parley.no_auth_required(), "BeginAuth")
    assert answer.requirement == login_pb2.REQUIREMENT_NOT_REQUIRED


def test_challenge_hides_what_is_typed():
    answer = build(
        parley.challenge("Code: ", ("Name: ", True), instruction="Hi"), "GetKbdintChallenge"
    )
    assert [(prompt.text, prompt.echo) for prompt in answer.challenge.prompts] == [
        ("Code: ", False),
        ("Name: ", True),
    ]
    assert answer.challenge.instruction == "Hi"


def test_change_required():
    answer = build(parley.change_required("New one: "), "ChangePassword")
    assert answer.change_required.prompt == "New one: "


def test_endpoints_of_a_session():
    assert build(parley.accept(), "SessionRequested").HasField("accept")
    assert build(parley.stream("audit"), "ExecRequested").stream.target == "audit"
    assert build(parley.refuse("no", code=4), "ShellRequested").refuse.code == 4
    answer = build(
        parley.process("/bin/date", "-u", environment={"TZ": "UTC"}, user="nobody"), "ExecRequested"
    )
    assert list(answer.process.argv) == [b"/bin/date", b"-u"]
    assert answer.process.environment[0].name == b"TZ" and answer.process.user == "nobody"
    hop = parley.UpstreamHop(host="inner", client_agent=parley.ClientAgent())
    assert build(parley.upstream(hop), "SessionRequested").upstream.hops[0].host == "inner"
    for empty in (parley.process, parley.upstream):
        with pytest.raises(ValueError):
            empty()


def test_options_go_with_the_answer_that_has_them():
    options = parley.ChannelOptions(window_bytes=65536)
    assert build(parley.stream(options=options), "SessionRequested").options.window_bytes == 65536


def test_forward_and_listen():
    answer = build(parley.forward("db", 5432, connect_timeout_s=3), "ConnectionRequested")
    assert (answer.forward.host, answer.forward.port) == ("db", 5432)
    assert build(parley.forward(), "TunRequested").forward.WhichOneof("device") is None
    assert build(parley.forward(unit=0), "TunRequested").forward.WhichOneof("device") == "unit"
    assert build(parley.listen(port=8080, ask_each=True), "ServerRequested").listen.ask_each
    assert build(parley.managed(9), "ServerRequested").managed.port == 9


def test_booleans_where_yes_is_allow():
    assert build(True, "ValidatePassword").HasField("allow")
    assert build(False, "ValidatePassword").HasField("deny")
    assert build(True, "PasswordAuthSupported").support == login_pb2.SUPPORT_YES
    assert build(False, "PasswordAuthSupported").support == login_pb2.SUPPORT_NO
    assert build(False, "SessionRequested").HasField("refuse")
    tied = build(parley.TIED_TO_PASSWORD, "KbdintAuthSupported")
    assert tied.support == login_pb2.SUPPORT_TIED_TO_PASSWORD


@pytest.mark.parametrize(
    "rpc, value",
    [
        ("ValidatePassword", None),
        ("ValidatePassword", 1),
        ("ValidatePassword", "yes"),
        ("ValidatePassword", common_pb2.Allow()),
        ("ValidatePassword", parley.accept()),
        ("ValidatePublicKey", parley.change_required("?")),
        ("PasswordAuthSupported", None),
        ("PasswordAuthSupported", "yes"),
        ("PasswordAuthSupported", parley.allow()),
        ("BeginAuth", True),
        ("BeginAuth", False),
        ("BeginAuth", None),
        ("SessionRequested", True),
        ("SessionRequested", parley.allow()),
        ("SessionRequested", parley.forward("db", 1)),
        ("ServerRequested", parley.stream()),
    ],
)
def test_what_is_no_answer(rpc, value):
    with pytest.raises((TypeError, ValueError)):
        build(value, rpc)


def test_a_message_of_the_right_type_is_taken_as_it_is():
    answer = login_pb2.PasswordAnswer(deny=common_pb2.Deny(message="x"))
    assert build(answer, "ValidatePassword") is answer


def test_programs_as_of_a_login():
    me = pwd.getpwuid(os.getuid())
    answer = build(parley.login_shell(me.pw_name, b"ls \xff"), "ExecRequested").process
    assert list(answer.argv) == [(me.pw_shell or "/bin/sh").encode(), b"-c", b"ls \xff"]
    assert (answer.user, answer.directory, answer.keep_environment) == (me.pw_name, b"", True)
    variables = {variable.name: variable.value for variable in answer.environment}
    assert variables[b"HOME"] == me.pw_dir.encode() and variables[b"LOGNAME"] == me.pw_name.encode()
    assert set(variables) == {b"HOME", b"USER", b"LOGNAME", b"SHELL", b"PATH"}
    answer = build(parley.login_shell(me.pw_name, environment={"TZ": "UTC"}, max_processes=9), "ShellRequested").process
    assert answer.argv[1] == b"-l" and answer.max_processes == 9
    assert parley.login_environment(me.pw_name, PATH="/mine")["PATH"] == "/mine"
    with pytest.raises(KeyError):
        parley.login_shell("no-such-user")
