"""What a client cannot do about a program: forced commands, refused and pending channels, a second request."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.answers import PATH, accept, grant, process, process_house, refuse
from harness.clients import OpenSsh
from harness.contract import pb
from harness.daemon import Daemon, children_of
from harness.policy import Policy
from harness.wire import string, u32

FORCED = b"echo forced; echo \"asked: $SSH_ORIGINAL_COMMAND\"; env | sort"


def forced_house(policy: Policy, **restrictions: object) -> None:
    """Everybody is forced to one command, and a careless policy lets any variable through and runs what it is asked about."""
    process_house(policy, keep_environment=True)
    policy.on.EnvRequested = grant()
    policy.on.AuthCompleted = pb.AuthCompletedAnswer(
        allow=pb.Allow(restrictions=pb.Restrictions(force_command=FORCED, **restrictions))
    )


@pytest.mark.parametrize(
    "command,options,asked",
    [("id; rm -rf /x", (), "id; rm -rf /x"), (None, (), ""), ("sftp", ("-s",), "sftp"), ("$(id)\n`id`", (), "$(id)\n`id`")],
)
def test_a_forced_command_takes_the_place_of_every_program(
    policy: Policy, ssh: OpenSsh, command: str | None, options: tuple, asked: str
) -> None:
    forced_house(policy)
    result = ssh.run(command, options=options, stdin=b"id\n")
    assert result.out.startswith(f"forced\nasked: {asked}\n".encode()), result
    assert b"uid=" not in result.out
    assert not policy.requests("ShellRequested") and not policy.requests("SubsystemRequested")


EVIL = ["LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "LD_DEBUG_OUTPUT", "BASH_ENV", "ENV", "PATH", "IFS", "SHELLOPTS", "PS4",
        "BASH_FUNC_echo%%", "GCONV_PATH", "PYTHONPATH", "PERL5OPT", "GIT_SSH_COMMAND", "HOME", "SSH_ORIGINAL_COMMAND"]  # fmt: skip


def test_no_variable_escapes_a_forced_command(policy: Policy, raw, work: Path) -> None:
    forced_house(policy)
    client = raw().login()
    number = client.open()
    for name in EVIL:
        assert not client.request(number, "env", string(name) + string(f"{work}/evil")), name
    assert client.request(number, "env", string("GIT_PROTOCOL") + string("version=2"))
    assert client.request(number, "exec", string("mine"))
    text = b""
    while (message := client.until(94, 96, 95)).type == 94:
        message.u32()
        text += message.string()
    assert b"evil" not in text and b"GIT_PROTOCOL=version=2\n" in text
    assert b"asked: mine\n" in text
    assert [r.variable.name for r in policy.requests("EnvRequested")] == [b"GIT_PROTOCOL"]


def test_no_second_program(policy: Policy, raw) -> None:
    """Neither beside the first nor after it has ended: its channel is gone."""
    forced_house(policy)
    client = raw().login()
    number = client.open()
    assert client.request(number, "exec", string("first"))
    for name, rest in (("exec", string("second")), ("shell", b""), ("subsystem", string("sftp"))):
        client.send(client.request_message(number, name, rest))
    replies = []
    while (message := client.until(99, 100, 97)).type != 97:
        replies.append(message.type)
    assert 99 not in replies
    assert len(policy.requests("ExecRequested")) == 1


def test_pty_and_environment_come_before_the_program(policy: Policy, raw) -> None:
    """They change nothing once it runs."""
    process_house(policy)
    policy.on.EnvRequested = grant()
    client = raw().login()
    number = client.execute("cat >/dev/null")
    size = u32(80) + u32(24) + u32(0) * 2
    assert not client.request(number, "pty-req", string("xterm") + size + string(b""))
    assert not client.request(number, "env", string("A") + string("B"))


@pytest.mark.parametrize("answer", ["accept", "absent"])
def test_a_program_chosen_before_never_takes_the_place_of_the_forced_one(policy: Policy, raw, answer: str) -> None:
    forced_house(policy)
    policy.on.SessionRequested = process("/bin/sh", "-c", "echo escaped", env=PATH)
    policy.on.ExecRequested = accept() if answer == "accept" else None
    client = raw().login()
    number = client.open()
    assert not client.request(number, "exec", string("x"))
    assert not client.request(number, "shell")


def test_granted_variables_are_not_the_clients_to_change(policy: Policy, ssh: OpenSsh) -> None:
    """Restrictions.environment, kept with the rest."""
    process_house(policy, keep_environment=True)
    policy.on.EnvRequested = grant()
    policy.on.AuthCompleted = pb.AuthCompletedAnswer(
        allow=pb.Allow(restrictions=pb.Restrictions(environment=[pb.EnvVar(name=b"TEAM", value=b"red")]))
    )
    result = ssh.run("echo $TEAM $OTHER", options=("-o", "SetEnv=TEAM=blue OTHER=mine"))
    assert result.out == b"red mine\n", result


# ---- T19: nothing of a refused or pending channel's data reaches anyone


def test_t19_data_before_the_answer_waits_and_arrives_once(policy: Policy, raw, work: Path) -> None:
    """Sent while the policy thinks: it reaches the program when that has been allowed, and nobody before."""
    process_house(policy)
    gate = policy.gate()

    async def later(request: object, _context: object) -> object:
        await gate.passed()
        return process("/bin/sh", "-c", f"cat > {work}/got", env=PATH)

    policy.on.ExecRequested = later
    client = raw().login()
    number = client.open()
    client.send(client.request_message(number, "exec", string("x")))
    client.data(number, b"early data")
    policy.wait_for("ExecRequested")
    client.quiet(0.3)
    assert not (work / "got").exists()
    gate.open()
    client.send(bytes([96]) + u32(number))
    client.until(97)
    assert (work / "got").read_bytes() == b"early data"


@pytest.mark.parametrize("how", ["refused", "unstartable", "no-answer"])
def test_t19_data_for_a_refused_program_reaches_nobody(policy: Policy, daemon: Daemon, raw, work: Path, how: str) -> None:
    """Nor does it reach the next program on the same channel."""
    process_house(policy)
    answers = {
        "refused": refuse("no"),
        "unstartable": process(""),
        "no-answer": b"\xff\xff",
    }
    policy.on.ExecRequested = answers[how]
    client = raw().login()
    number = client.open()
    client.data(number, b"secret of the first")
    assert not client.request(number, "exec", string("x"))
    policy.on.ExecRequested = process("/bin/sh", "-c", f"cat > {work}/got", env=PATH)
    assert client.request(number, "exec", string("x"))
    client.data(number, b"second")
    client.send(bytes([96]) + u32(number))
    client.until(97)
    assert (work / "got").read_bytes() == b"second"


def test_t19_a_refused_session_starts_nothing(policy: Policy, daemon: Daemon, raw) -> None:
    process_house(policy)
    policy.on.SessionRequested = refuse("closed")
    client = raw().login()
    client.send(client.open_message())
    assert client.expect(92).u32() == 0
    assert not policy.requests("ExecRequested") and not children_of(daemon.pid)


def test_t19_a_channel_that_is_closed_while_the_policy_thinks_starts_nothing(
    policy: Policy, daemon: Daemon, raw, work: Path
) -> None:
    """A yes that comes too late is nobody's."""
    process_house(policy)
    gate = policy.gate()

    async def later(request: object, _context: object) -> object:
        await gate.passed()
        return process("/bin/touch", f"{work}/ran")

    policy.on.ExecRequested = later
    client = raw().login()
    number = client.open()
    client.send(client.request_message(number, "exec", string("x")))
    client.data(number, b"data")
    policy.wait_for("ExecRequested")
    client.send(bytes([97]) + u32(number))
    client.until(97)
    gate.open()
    policy.on.ExecRequested = process("/bin/echo", "fence")
    client.execute("x", channel=1)
    client.until(97)
    assert not (work / "ran").exists()


def test_recording_orders_refuse(policy: Policy, raw) -> None:
    process_house(policy)
    answer = process("/bin/true")
    answer.recording.file.name = "x"
    policy.on.ExecRequested = answer
    client = raw().login()
    assert not client.request(client.open(), "exec", string("x"))
