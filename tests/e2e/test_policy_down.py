"""No answer is no: a policy that is down, hung or killed lets nobody in, says so, and is found again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Iterator

import pytest

from harness.answers import open_house, password_house, say
from harness.clients import OpenSsh
from harness.daemon import Daemon
from harness.policy import Policy, hang
from harness.rawclient import RawClient
from harness.wait import PATIENCE_S, poll

Raw = Callable[..., RawClient]
NO_ANSWER = "policy"  # what a client is told names the policy


def try_until_login(ssh: OpenSsh, seconds: float = 30) -> None:
    """Once the policy is back logins work again within the link's backoff."""
    end = time.monotonic() + seconds
    while True:
        result = ssh.run("x")
        if result.status == 0:
            return
        assert time.monotonic() < end, result


def test_down_from_the_start(work: Path, start_daemon: Callable[..., Daemon], connect_ssh: Callable[..., OpenSsh]) -> None:
    """The daemon starts all the same, refuses, and finds the policy when it comes."""
    ssh = connect_ssh(daemon := start_daemon())
    result = ssh.run("x")
    assert result.status == 255 and NO_ANSWER in result.err.lower(), result
    assert not daemon.events("login")
    with Policy(f"unix:{work}/policy.sock") as policy:
        open_house(policy, say(b"in\n"))
        try_until_login(ssh)


def test_gone_and_back(policy: Policy, daemon: Daemon, ssh: OpenSsh) -> None:
    password_house(policy)
    assert ssh.run("x", password="wonderland").status == 0
    logins = len(daemon.events("login"))
    policy.stop()
    for _ in range(3):
        result = ssh.run("x", password="wonderland")
        assert result.status == 255 and NO_ANSWER in result.err.lower(), result
    assert len(daemon.events("login")) == logins
    policy.start()
    end = time.monotonic() + 30
    while ssh.run("x", password="wonderland").status != 0:
        assert time.monotonic() < end, "no login although the policy is back"


def test_tcp_policy_refused(start_daemon: Callable[..., Daemon], connect_ssh: Callable[..., OpenSsh]) -> None:
    """Nobody listens on that port of loopback."""
    ssh = connect_ssh(start_daemon(policy="127.0.0.1:1"))
    result = ssh.run("x")
    assert result.status == 255 and NO_ANSWER in result.err.lower(), result


def test_tcp_policy(start_daemon: Callable[..., Daemon], connect_ssh: Callable[..., OpenSsh]) -> None:
    with Policy("127.0.0.1:0") as policy:
        open_house(policy, say(b"in\n"))
        assert connect_ssh(start_daemon(policy=policy.target)).run("x").out == b"in\n"


# ---- hung: the deadline refuses

HANDLERS = ["ConnectionMade", "BeginAuth", "PasswordAuthSupported", "ValidatePassword", "AuthCompleted"]


@pytest.mark.parametrize("handler", HANDLERS)
def test_hung_during_login(policy: Policy, start_daemon: Callable[..., Daemon], handler: str) -> None:
    password_house(policy)
    if handler == "PasswordAuthSupported":
        policy.on.BeginAuth = None
    setattr(policy.on, handler, hang)
    daemon = start_daemon("--rpc-deadline", f"{handler}=700ms")
    began = time.monotonic()
    client = RawClient(daemon.port)
    client.send_all(bytes([5]) + b"\0\0\0\x0cssh-userauth", client.password_message("alice", "wonderland"))
    if handler == "AuthCompleted":
        assert client.expect(6) and client.expect(52)
    if handler in ("PasswordAuthSupported", "ValidatePassword"):
        assert client.expect(6) and client.expect(51)
        if handler == "ValidatePassword":
            assert NO_ANSWER in " ".join(client.banners).lower()
    else:
        assert NO_ANSWER in client.expect_disconnect().reason.lower()
    assert 0.6 < time.monotonic() - began < 20
    policy.wait_end(handler, "cancelled")
    assert not daemon.events("login")
    client.close()


@pytest.mark.parametrize("handler", ["SessionRequested", "PtyRequested", "EnvRequested", "ExecRequested"])
def test_hung_after_login(policy: Policy, start_daemon: Callable[..., Daemon], handler: str) -> None:
    open_house(policy, say(b"never"))
    setattr(policy.on, handler, hang)
    client = RawClient(start_daemon("--rpc-deadline", f"{handler}=700ms").port).login()
    client.send(client.open_message())
    if handler == "SessionRequested":
        assert client.expect(92)
    else:
        confirmation = client.expect(91)
        confirmation.u32()
        number = confirmation.u32()
        rest = {
            "PtyRequested": b"\0\0\0\2vt" + b"\0" * 16 + b"\0\0\0\0",
            "EnvRequested": b"\0\0\0\4LANG\0\0\0\1C",
            "ExecRequested": b"\0\0\0\1x",
        }[handler]
        assert not client.request(number, {"PtyRequested": "pty-req", "EnvRequested": "env", "ExecRequested": "exec"}[handler], rest)
    assert not policy.streams
    client.close()


def test_default_deadlines(policy: Policy, raw: Raw) -> None:
    """10 s for authentication, 5 s else: read from the calls, which may have been on their way for a while, not waited for."""
    password_house(policy)
    client = raw()
    client.service()
    client.try_password("alice", "wonderland")
    client.execute()
    deadlines = {call.name: call.deadline_s or 0 for call in policy.calls}
    assert all(5 < deadlines[name] <= 10.1 for name in ("BeginAuth", "ValidatePassword")), deadlines
    assert all(0 < deadlines[name] <= 5.1 for name in ("SessionRequested", "ExecRequested")), deadlines


def test_late_answers_are_not_used(policy: Policy, start_daemon: Callable[..., Daemon]) -> None:
    """An allow that comes after the refusal changes nothing."""
    gate = policy.gate()

    async def late(request: object, _context: object) -> object:
        await gate.passed()
        return check(request, _context)

    password_house(policy)
    check = policy.on.ValidatePassword
    policy.on.ValidatePassword = late
    client = RawClient(start_daemon("--rpc-deadline", "ValidatePassword=500ms").port)
    client.service()
    assert client.try_password("alice", "wonderland").type == 51
    gate.open()
    client.quiet(0.5)
    client.close()


# ---- killed


@pytest.mark.parametrize("handler", ["ConnectionMade", "BeginAuth", "ValidatePassword", "AuthCompleted"])
def test_killed_in_the_middle_of_a_login(policy: Policy, daemon: Daemon, raw: Raw, handler: str) -> None:
    password_house(policy)
    setattr(policy.on, handler, hang)
    client = raw()
    client.send_all(bytes([5]) + b"\0\0\0\x0cssh-userauth", client.password_message("alice", "wonderland"))
    policy.wait_for(handler)
    policy.stop()
    began = time.monotonic()
    if handler == "ValidatePassword":
        assert client.expect(6) and client.expect(51)
    elif handler == "AuthCompleted":
        assert client.expect(6) and client.expect(52)
        client.expect_disconnect()
    else:
        client.expect_disconnect()
    assert time.monotonic() - began < 9, "a dead link is noticed before the deadline"
    assert not daemon.events("login")


@pytest.fixture
def policy_process(work: Path) -> Iterator[Callable[[], subprocess.Popen]]:
    """A policy in a process of its own, to be stopped and killed like one."""
    processes: list[subprocess.Popen] = []

    def start() -> subprocess.Popen:
        program = Path(__file__).parent / "harness/policy_process.py"
        path = work / "policy.sock"
        processes.append(subprocess.Popen([sys.executable, str(program), f"unix:{path}"], stdout=subprocess.PIPE))
        assert processes[-1].stdout and processes[-1].stdout.readline() == b"serving\n"
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.wait()
        process.stdout.close()


def test_sigkill_and_return(policy_process, start_daemon: Callable[..., Daemon], connect_ssh: Callable[..., OpenSsh]) -> None:
    process = policy_process()
    ssh = connect_ssh(start_daemon())
    assert ssh.run("x").status == 0
    session = ssh.popen("cat")
    session.stdin.write(b"hello")
    session.stdin.flush()
    assert session.stdout.read(5) == b"hello"
    process.kill()
    process.wait()
    assert session.wait(PATIENCE_S) == 255, session.stderr.read()
    result = ssh.run("x")
    assert result.status == 255 and NO_ANSWER in result.err.lower(), result
    policy_process()
    try_until_login(ssh)


def test_sigstop_refuses_at_the_deadline_and_recovers(policy_process, start_daemon: Callable[..., Daemon], connect_ssh: Callable[..., OpenSsh]) -> None:
    process = policy_process()
    daemon = start_daemon("--policy-auth-deadline", "1s", "--policy-deadline", "1s")
    ssh = connect_ssh(daemon)
    try_until_login(ssh)
    logins = len(daemon.events("login"))
    process.send_signal(signal.SIGSTOP)
    poll(lambda: "T" in Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0], "the policy to stop")
    result = ssh.run("x")
    assert result.status == 255 and NO_ANSWER in result.err.lower(), result
    assert len(daemon.events("login")) == logins
    process.send_signal(signal.SIGCONT)
    try_until_login(ssh)


def test_flapping(policy: Policy, daemon: Daemon, raw: Raw) -> None:
    """Up and down again and again: never a crash, and in the end a login."""
    open_house(policy, say(b"x"))
    for _ in range(5):
        policy.stop()
        client = raw()
        client.send_all(bytes([5]) + b"\0\0\0\x0cssh-userauth", client.auth_message("alice", "none"))
        client.expect_end()
        policy.start()
    end = time.monotonic() + 30
    while True:
        client = raw()
        try:
            client.login()
            break
        except Exception:
            assert time.monotonic() < end, "no login although the policy is back"


def test_file_descriptors_do_not_leak(policy: Policy, daemon: Daemon, raw: Raw) -> None:
    def count() -> int:
        return len(os.listdir(f"/proc/{daemon.pid}/fd"))

    open_house(policy, say(b"x"))
    raw().login().disconnect()
    policy.wait_for("ConnectionLost")
    before = count()
    for number in range(20):
        client = raw().login()
        client.execute()
        client.until(97)
        client.close()
        policy.wait_for("ConnectionLost", number + 2)
    poll(lambda: count() <= before + 1, "descriptors to be given back")
