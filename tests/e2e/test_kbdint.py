"""Keyboard-interactive and changes of a password, with the clients that people have."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path
from typing import Any, Callable, Iterator

import asyncssh
import paramiko
import pytest

from harness import wire
from harness.answers import (
    KBDINT,
    PASSWORD,
    begin,
    challenge,
    change_required,
    kbdint_house,
    kbdint_no,
    kbdint_ok,
    password_house,
    password_no,
    password_ok,
    say,
    serve,
)
from harness.clients import OpenSsh
from harness.contract import pb
from harness.daemon import Daemon, clean_env
from harness.deadline import within_login_deadline
from harness.keys import Key
from harness.policy import Policy
from harness.rawclient import RawClient
from harness.terminal import Terminal
from harness.wait import PATIENCE_S

ONLY_KBDINT = ("-o", "PreferredAuthentications=keyboard-interactive", "-o", "BatchMode=no")
ONLY_PASSWORD = ("-o", "PreferredAuthentications=password", "-o", "BatchMode=no", "-o", "NumberOfPasswordPrompts=3")


def three_rounds(policy: Policy) -> list[list[str]]:
    """A hidden and a shown prompt, then something to read, then a hidden one; what was answered."""
    given: list[list[str]] = []

    def check(request: Any, _context: Any) -> Any:
        given.append(list(request.responses))
        if given[-1] == ["sésame", "blue"]:
            return challenge(instruction="Your phone rings now.")
        if not given[-1]:
            return challenge("Code: ", name="Second step")
        return kbdint_ok() if given[-1] == ["271828"] else kbdint_no("wrong answer")

    policy.on.BeginAuth = begin(KBDINT)
    policy.on.GetKbdintChallenge = challenge("Secret: ", ("Colour: ", True), name="First step", instruction="Two questions.")
    policy.on.ValidateKbdintResponse = check
    serve(policy, say(b"welcome\n"))
    return given


RIGHT = [["sésame", "blue"], [], ["271828"]]


# ---- OpenSSH


def test_openssh_code(policy: Policy, daemon: Daemon, ssh: OpenSsh) -> None:
    kbdint_house(policy)
    assert ssh.run("x", password="271828", options=ONLY_KBDINT).status == 0
    assert [factor.method for factor in policy.wait_for("AuthCompleted").context.passed] == [KBDINT]
    wrong = ssh.run("x", password="314159", options=ONLY_KBDINT)
    assert wrong.status == 255 and "Permission denied (keyboard-interactive)" in wrong.err, wrong
    assert daemon.wait_event("auth_attempt", outcome="success")["method"] == "keyboard-interactive"


def test_openssh_rounds_on_a_terminal(policy: Policy, ssh: OpenSsh) -> None:
    """Name and instruction are shown, what is typed only where the prompt says so."""
    given = three_rounds(policy)
    terminal = ssh.terminal("x", options=ONLY_KBDINT)
    terminal.wait_shown(b"Secret: ")
    terminal.write("sésame\n".encode())
    terminal.wait_shown(b"Colour: ")
    terminal.write(b"blue\n")
    terminal.wait_shown(b"Code: ")
    terminal.write(b"271828\n")
    terminal.wait_shown(b"welcome")
    assert terminal.wait() == 0
    assert given == RIGHT
    shown = bytes(terminal.shown).decode()
    for text in ("First step", "Two questions.", "Your phone rings now.", "Second step"):
        assert text in shown, shown
    assert "blue" in shown and "sésame" not in shown and "271828" not in shown, shown


def test_openssh_names_its_devices(policy: Policy, ssh: OpenSsh) -> None:
    kbdint_house(policy)
    ssh.run("x", password="271828", options=(*ONLY_KBDINT, "-o", "KbdInteractiveDevices=totp,sms"))
    assert policy.wait_for("GetKbdintChallenge").submethods == "totp,sms"


@pytest.mark.parametrize("how", ["begin", "supported", "absent"])
def test_openssh_tied_to_the_password(policy: Policy, ssh: OpenSsh, how: str) -> None:
    password_house(policy)
    policy.on.BeginAuth = begin(KBDINT, tie_kbdint_to_password=True) if how == "begin" else pb.BeginAuthAnswer()
    policy.on.PasswordAuthSupported = pb.SupportedAnswer(support=pb.SUPPORT_YES)
    if how == "supported":
        policy.on.KbdintAuthSupported = pb.SupportedAnswer(support=pb.SUPPORT_TIED_TO_PASSWORD)
    result = ssh.run("x", password="wonderland", options=ONLY_KBDINT)
    assert result.status == 0, result
    assert policy.wait_for("ValidatePassword").password == "wonderland"
    assert [factor.method for factor in policy.wait_for("AuthCompleted").context.passed] == [KBDINT]
    assert ssh.run("x", password="looking-glass", options=ONLY_KBDINT).status == 255
    assert "GetKbdintChallenge" not in policy.names()


def test_openssh_key_and_code(policy: Policy, ssh: OpenSsh, user_key: Key) -> None:
    kbdint_house(policy)
    policy.on.BeginAuth = begin(pb.AUTH_METHOD_PUBLICKEY, KBDINT, required=[pb.Methods(methods=[pb.AUTH_METHOD_PUBLICKEY, KBDINT])])
    policy.on.ValidatePublicKey = pb.AuthAnswer(allow=pb.Allow())
    result = ssh.run("x", key=user_key, password="271828")
    assert result.status == 0, result
    passed = policy.wait_for("AuthCompleted").context.passed
    assert [factor.method for factor in passed] == [pb.AUTH_METHOD_PUBLICKEY, KBDINT]


def test_openssh_refusal_is_shown(policy: Policy, ssh: OpenSsh) -> None:
    kbdint_house(policy)
    policy.on.ValidateKbdintResponse = kbdint_no("This token is lost.")
    result = ssh.run("x", password="271828", options=ONLY_KBDINT)
    assert result.status == 255 and "This token is lost." in result.err, result


def change_house(policy: Policy) -> list[tuple[str, str]]:
    """The password has expired; a new one of less than eight characters is not good enough. What was tried."""
    tried: list[tuple[str, str]] = []

    def change(request: Any, _context: Any) -> Any:
        tried.append((request.old_password, request.new_password))
        if request.old_password != "wonderland":
            return password_no("That was not the old one.")
        return password_ok() if len(request.new_password) >= 8 else change_required("Too short, try again.")

    password_house(policy)
    policy.on.BeginAuth = begin(PASSWORD)
    policy.on.ValidatePassword = lambda request, _: change_required("Expired, choose another.") if request.password == "wonderland" else password_no()
    policy.on.ChangePassword = change
    serve(policy, say(b"welcome\n"))
    return tried


def test_openssh_changes_an_expired_password(policy: Policy, ssh: OpenSsh) -> None:
    """The first new one is not good enough, the second is."""
    tried = change_house(policy)
    terminal = ssh.terminal("x", options=ONLY_PASSWORD)
    terminal.wait_shown(b"password: ")
    terminal.write(b"wonderland\n")
    terminal.wait_shown(b"Expired, choose another.")
    for index, new in enumerate((b"short", b"long enough"), 1):
        for prompt, text in ((b"old password: ", b"wonderland"), (b"Enter alice@127.0.0.1's new password: ", new), (b"Retype ", new)):
            terminal.board.wait(lambda: terminal.shown.count(prompt) >= index, f"{prompt!r}: {bytes(terminal.shown)!r}")
            terminal.write(text + b"\n")
    terminal.wait_shown(b"welcome")
    assert terminal.wait() == 0
    assert tried == [("wonderland", "short"), ("wonderland", "long enough")]
    assert b"Too short, try again." in terminal.shown and b"long enough" not in terminal.shown


# ---- asyncssh and paramiko


class Answering(asyncssh.SSHClient):
    """Answers each round with the next of its answers, noting what was asked."""

    def __init__(self, answers: list[list[str]]) -> None:
        self.answers = iter(answers)
        self.seen: list[tuple[str, str, list[tuple[str, bool]]]] = []

    def kbdint_auth_requested(self) -> str:
        return "totp"

    def kbdint_challenge_received(self, name: str, instructions: str, lang: str, prompts: list[tuple[str, bool]]) -> list[str]:
        self.seen.append((name, instructions, list(prompts)))
        return next(self.answers)


def asyncssh_run(daemon: Daemon, client: asyncssh.SSHClient) -> Any:
    async def main() -> Any:
        options = {"username": "alice", "known_hosts": None, "client_keys": None, "agent_path": None, "config": None}
        async with asyncssh.connect("127.0.0.1", daemon.port, client_factory=lambda: client, preferred_auth="keyboard-interactive", **options) as connection:
            return await connection.run("x")

    return asyncio.run(asyncio.wait_for(main(), PATIENCE_S))


ROUNDS = [
    ("First step", "Two questions.", [("Secret: ", False), ("Colour: ", True)]),
    ("", "Your phone rings now.", []),
    ("Second step", "", [("Code: ", False)]),
]


def test_asyncssh_rounds(policy: Policy, daemon: Daemon) -> None:
    given = three_rounds(policy)
    client = Answering(RIGHT)
    assert asyncssh_run(daemon, client).stdout == "welcome\n"
    assert (given, client.seen) == (RIGHT, ROUNDS)
    assert policy.wait_for("GetKbdintChallenge").submethods == "totp"


@pytest.mark.parametrize("answers", [[["sésame", "red"]], [["sésame"]], [["sésame", "blue"], ["unasked"]]], ids=["wrong", "too-few", "too-many"])
def test_asyncssh_wrong_answers(policy: Policy, daemon: Daemon, answers: list[list[str]]) -> None:
    three_rounds(policy)
    with pytest.raises((asyncssh.PermissionDenied, StopIteration, RuntimeError)):
        asyncssh_run(daemon, Answering(answers))
    assert "AuthCompleted" not in policy.names()


def paramiko_transport(daemon: Daemon) -> paramiko.Transport:
    transport = paramiko.Transport(("127.0.0.1", daemon.port))
    transport.start_client(timeout=PATIENCE_S)
    return transport


def test_paramiko_rounds(policy: Policy, daemon: Daemon) -> None:
    given = three_rounds(policy)
    seen: list[Any] = []
    answers = iter(RIGHT)

    def handler(title: str, instructions: str, prompts: list[tuple[str, bool]]) -> list[str]:
        seen.append((title, instructions, list(prompts)))
        return next(answers)

    with paramiko_transport(daemon) as transport:
        assert transport.auth_interactive("alice", handler, "totp") == []
        assert transport.is_authenticated()
    assert (given, seen) == (RIGHT, ROUNDS)


def test_paramiko_falls_back_to_the_tie(policy: Policy, daemon: Daemon) -> None:
    """Its auth_password() tries keyboard-interactive if that is all there is."""
    password_house(policy)
    policy.on.BeginAuth = begin(KBDINT, tie_kbdint_to_password=True)
    with paramiko_transport(daemon) as transport:
        transport.auth_password("alice", "wonderland")
        assert transport.is_authenticated()
    with paramiko_transport(daemon) as transport, pytest.raises(paramiko.AuthenticationException):
        transport.auth_password("alice", "looking-glass")


def test_paramiko_cannot_change_a_password(policy: Policy, daemon: Daemon) -> None:
    """It does not know the message; nobody is in."""
    change_house(policy)
    with paramiko_transport(daemon) as transport, pytest.raises(paramiko.SSHException):
        transport.auth_password("alice", "wonderland")
    policy.wait_for("ConnectionLost")
    assert "AuthCompleted" not in policy.names()


# ---- PuTTY and dropbear


@pytest.fixture
def on_terminal() -> Iterator[Callable[..., Terminal]]:
    """Programs on terminals of their own, ended with the test."""
    started: list[Terminal] = []

    def start(argv: list[str], home: Path) -> Terminal:
        started.append(Terminal(argv, clean_env({"HOME": str(home), "TERM": "xterm"}), rows=24, columns=80))
        return started[-1]

    yield start
    for terminal in started:
        if terminal.process.poll() is None:
            terminal.process.kill()
        terminal.process.wait()


needs_plink = pytest.mark.skipif(not shutil.which("plink"), reason="PuTTY's client (putty-tools) is not installed")
needs_dbclient = pytest.mark.skipif(not shutil.which("dbclient"), reason="dropbear's client (dropbear-bin) is not installed")


def plink(daemon: Daemon, host_key: Key, *more: str) -> list[str]:
    return ["plink", "-ssh", "-P", str(daemon.port), "-l", "alice", "-hostkey", host_key.fingerprint, *more, "127.0.0.1", "x"]


def dbclient(daemon: Daemon) -> list[str]:
    return ["dbclient", "-y", "-y", "-T", "-p", str(daemon.port), "alice@127.0.0.1", "x"]


def answer_three_rounds(terminal: Terminal) -> None:
    for prompt, text in ((b"Secret: ", "sésame"), (b"Colour: ", "blue"), (b"Code: ", "271828")):
        terminal.wait_shown(prompt)
        terminal.write(text.encode() + b"\n")
    terminal.wait_shown(b"welcome")
    assert terminal.wait() == 0
    assert b"Your phone rings now." in terminal.shown and b"271828" not in terminal.shown


@needs_plink
def test_plink_rounds(policy: Policy, daemon: Daemon, work: Path, host_key: Key, on_terminal: Callable[..., Terminal]) -> None:
    given = three_rounds(policy)
    answer_three_rounds(on_terminal(plink(daemon, host_key, "-no-antispoof"), work))
    assert given == RIGHT


@needs_plink
def test_plink_code_from_its_command_line(policy: Policy, daemon: Daemon, work: Path, host_key: Key) -> None:
    kbdint_house(policy)
    for code, good in (("271828", True), ("314159", False)):
        ended = subprocess.run(
            plink(daemon, host_key, "-batch", "-pw", code), capture_output=True, timeout=PATIENCE_S, env=clean_env({"HOME": str(work)}), start_new_session=True
        )
        assert (ended.returncode == 0) is good, ended


@needs_dbclient
def test_dbclient_rounds(policy: Policy, daemon: Daemon, work: Path, on_terminal: Callable[..., Terminal]) -> None:
    given = three_rounds(policy)
    answer_three_rounds(on_terminal(dbclient(daemon), work))
    assert given == RIGHT


# ---- what no client sends


def test_language_and_submethods_are_passed_on(policy: Policy, raw: Callable[..., RawClient]) -> None:
    kbdint_house(policy)
    client = raw()
    client.service()
    client.try_kbdint(language="de-CH", submethods="a,b")
    asked = policy.wait_for("GetKbdintChallenge")
    assert (asked.language, asked.submethods) == ("de-CH", "a,b")


def test_what_the_client_is_asked_is_what_the_policy_said(policy: Policy, raw: Callable[..., RawClient]) -> None:
    kbdint_house(policy)
    prompts = [("Zeile\n", True), ("", False), ("☃" * 500, True)]
    policy.on.GetKbdintChallenge = challenge(*prompts, name="Nämé", instruction="a\r\nb", language="fr")
    client = raw()
    client.service()
    asked = client.try_kbdint()
    assert [asked.string().decode() for _ in range(3)] == ["Nämé", "a\r\nb", "fr"]
    assert [(asked.string().decode(), asked.boolean()) for _ in range(asked.u32())] == prompts
    asked.end()


def test_state_is_carried_through_a_dialogue(policy: Policy, raw: Callable[..., RawClient]) -> None:
    """So that a policy without a memory knows what it has asked."""
    kbdint_house(policy)
    first = challenge("1")
    first.common.state = b"one"
    policy.on.GetKbdintChallenge = first
    client = raw()
    client.service()
    client.try_kbdint()
    client.respond("x")
    assert policy.wait_for("ValidateKbdintResponse").context.state == b"one"


def test_login_deadline_in_a_dialogue(policy: Policy, start_daemon: Callable[..., Daemon]) -> None:
    kbdint_house(policy)

    def reach(client: RawClient) -> None:
        client.service()
        assert client.try_kbdint().type == wire.INFO_REQUEST

    client = within_login_deadline(start_daemon, reach).client
    assert client.expect_disconnect().reason
    client.close()
