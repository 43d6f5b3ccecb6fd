"""Sessions with a terminal: its type, size and modes reach the policy, and so do resizing, keys, signals and breaks."""

from __future__ import annotations

import asyncio

import asyncssh
import pytest

from harness.answers import cat, deny_grant, grant, open_house, wait_close
from harness.clients import OpenSsh
from harness.contract import pb
from harness.daemon import Daemon
from harness.policy import Policy
from harness.stream import ChannelStream
from harness.wire import string, u32

VINTR, VEOF, ICANON, ECHO, TTY_OP_ISPEED, TTY_OP_OSPEED = 1, 5, 51, 53, 128, 129


async def shell(channel: ChannelStream) -> None:
    """Prompts, repeats lines, ends at `exit` or ^D."""
    await channel.write(b"ready$ ")
    while data := await channel.read_data():
        if data in (b"\x04", b"exit\r"):
            break
        await channel.write(b"[" + data.replace(b"\x03", b"^C").replace(b"\r", b"\r\n") + b"]")
    await channel.exit(7)


def test_shell_on_a_terminal(policy: Policy, ssh: OpenSsh) -> None:
    open_house(policy, shell)
    terminal = ssh.terminal(rows=33, columns=101, term="xterm-256color")
    terminal.wait_shown(b"ready$ ")
    asked = policy.wait_for("PtyRequested").pty
    assert asked.term == "xterm-256color"
    assert (asked.size.columns, asked.size.rows) == (101, 33)
    session = policy.wait_stream().session
    assert session.pty == asked and session.WhichOneof("program") == "shell"
    terminal.write(b"abc")
    terminal.wait_shown(b"[")
    policy.wait_stream().wait_input(b"abc")
    terminal.write(b"\x04")
    assert terminal.wait() == 7


def test_terminal_modes_reach_the_policy(policy: Policy, ssh: OpenSsh) -> None:
    open_house(policy, shell)
    terminal = ssh.terminal()
    modes = {mode.opcode: mode.value for mode in policy.wait_for("PtyRequested").pty.modes}
    assert modes[VINTR] == 3 and modes[VEOF] == 4  # ^C and ^D of a fresh terminal
    assert {ICANON, ECHO, TTY_OP_ISPEED, TTY_OP_OSPEED} <= set(modes)
    terminal.wait_shown(b"ready$ ")
    terminal.write(b"\x04")
    terminal.wait()


def test_forced_terminal_for_a_command(policy: Policy, ssh: OpenSsh) -> None:
    open_house(policy, shell)
    terminal = ssh.terminal("top", options=("-tt",))
    terminal.wait_shown(b"ready$ ")
    session = policy.wait_stream().session
    assert session.exec.command == b"top" and session.HasField("pty")
    terminal.write(b"\x04")
    assert terminal.wait() == 7


def test_resize_reaches_the_policy(policy: Policy, ssh: OpenSsh) -> None:
    open_house(policy, shell)
    terminal = ssh.terminal(rows=24, columns=80)
    terminal.wait_shown(b"ready$ ")
    terminal.resize(50, 132)
    change = policy.wait_stream().wait_event("window_change", lambda size: size.rows == 50)
    assert change.columns == 132
    terminal.write(b"\x04")
    terminal.wait()


def test_ctrl_c_arrives_as_a_byte(policy: Policy, ssh: OpenSsh) -> None:
    """With a terminal the client's is raw: ^C is the program's to interpret, and does not end the client."""
    open_house(policy, shell)
    terminal = ssh.terminal()
    terminal.wait_shown(b"ready$ ")
    terminal.write(b"\x03")
    policy.wait_stream().wait_input(b"\x03")
    terminal.wait_shown(b"[^C]")
    terminal.write(b"\x04")
    assert terminal.wait() == 7


def test_break_by_the_clients_escape(policy: Policy, ssh: OpenSsh) -> None:
    open_house(policy, shell)
    terminal = ssh.terminal(options=("-e", "~"))
    terminal.wait_shown(b"ready$ ")
    terminal.write(b"\r~B")
    request = policy.wait_stream().wait_event("break_request")
    assert request.length_ms == 1000
    terminal.write(b"\x04")
    terminal.wait()


def test_eof_of_a_terminal_client(policy: Policy, ssh: OpenSsh) -> None:
    """~. ends the client; the policy hears of it."""
    open_house(policy, wait_close)
    terminal = ssh.terminal(options=("-e", "~", "-tt"))
    record = policy.wait_stream()
    terminal.write(b"\r~.")
    record.wait_closed()
    assert terminal.wait() == 255


def pty_request(term: bytes | str = "vt100") -> bytes:
    return string(term) + u32(80) + u32(24) + u32(640) + u32(480) + string(bytes([53]) + u32(1) + b"\0")


@pytest.mark.parametrize("answer", [deny_grant(), pb.GrantAnswer(), pb.GrantAnswer(allow=pb.Allow(expires_in_s=5))])
def test_pty_denied(policy: Policy, raw, answer: object) -> None:
    """The client is told, and the program runs without; an allow that cannot be kept is a no."""
    open_house(policy, cat)
    policy.on.PtyRequested = answer
    client = raw().login()
    number = client.open()
    assert not client.request(number, "pty-req", pty_request())
    assert client.request(number, "shell")
    assert not policy.wait_stream().session.HasField("pty")


def test_pty_denied_to_openssh(policy: Policy, ssh: OpenSsh) -> None:
    """Which gives up then."""
    open_house(policy, cat)
    policy.on.PtyRequested = deny_grant()
    result = ssh.run("x", options=("-tt",))
    assert result.status == 255 and "PTY allocation request failed" in result.err, result


def test_pty_granted_by_a_handler(policy: Policy, raw) -> None:
    open_house(policy, wait_close)
    policy.on.PtyRequested = grant()
    client = raw().login()
    number = client.open()
    assert client.request(number, "pty-req", pty_request())
    assert client.request(number, "shell")
    pty = policy.wait_stream().session.pty
    assert pty == pb.Pty(
        term="vt100",
        size=pb.WindowSize(columns=80, rows=24, width_px=640, height_px=480),
        modes=[pb.TerminalMode(opcode=53, value=1)],
    )


def test_a_second_pty_is_refused(policy: Policy, raw) -> None:
    open_house(policy, wait_close)
    client = raw().login()
    number = client.open()
    assert client.request(number, "pty-req", pty_request())
    assert not client.request(number, "pty-req", pty_request())
    assert len(policy.requests("PtyRequested")) == 1


def test_window_change_without_pty_is_not_passed_on(policy: Policy, raw) -> None:
    open_house(policy, cat)
    client = raw().login()
    number = client.execute()
    assert not client.request(number, "window-change", u32(1) + u32(2) + u32(3) + u32(4))
    client.data(number, b"after")
    client.expect(94)
    assert policy.wait_stream().kinds() == []


# ---- what OpenSSH's client does not send


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP", "USR1", "custom@example.com"])
def test_signal_reaches_the_policy(policy: Policy, raw, name: str) -> None:
    open_house(policy, wait_close)
    client = raw().login()
    number = client.execute()
    client.send(client.request_message(number, "signal", string(name), reply=False))
    assert policy.wait_stream().wait_event("signal").name == name


def test_signal_from_asyncssh(policy: Policy, daemon: Daemon) -> None:
    async def until_signal(channel: ChannelStream) -> None:
        await channel.write(b"running")
        while event := await channel.read():
            if event.WhichOneof("event") == "signal":
                await channel.exit_signal(event.signal.name)
                return

    async def client() -> tuple[str, ...]:
        async with asyncssh.connect(
            "127.0.0.1", daemon.port, username="alice", known_hosts=None, client_keys=None, agent_path=None, config=None
        ) as connection:
            process = await connection.create_process("sleep")
            await process.stdout.readexactly(7)
            process.send_signal("INT")
            return (await process.wait()).exit_signal

    open_house(policy, until_signal)
    assert asyncio.run(asyncio.wait_for(client(), 60))[0] == "INT"


@pytest.mark.parametrize("handled", [True, False])
def test_break_is_answered_by_the_policy(policy: Policy, raw, handled: bool) -> None:
    async def program(channel: ChannelStream) -> None:
        while event := await channel.read():
            if event.WhichOneof("event") == "break_request":
                answer = pb.BreakAnswer(id=event.break_request.id, handled=handled)
                await channel.send(pb.ChannelAction(break_answer=answer))

    open_house(policy, program)
    client = raw().login()
    number = client.execute()
    assert client.request(number, "break", u32(500)) is handled
    request = policy.wait_stream().wait_event("break_request")
    assert (request.length_ms, request.want_reply) == (500, True)


def test_flow_control_request_reaches_the_client(policy: Policy, raw) -> None:
    async def program(channel: ChannelStream) -> None:
        await channel.send(pb.ChannelAction(client_flow_control=pb.ClientFlowControl(can_do=True)))
        await channel.drain()

    open_house(policy, program)
    client = raw().login()
    client.execute()
    request = client.expect(98)
    assert (request.u32(), request.string(), request.boolean(), request.boolean()) == (0, b"xon-xoff", False, True)
