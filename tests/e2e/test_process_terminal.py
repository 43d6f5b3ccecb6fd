"""Interactive programs on a real terminal (tmux), from the OpenSSH client to a shell on the daemon's machine."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Callable, Iterator

import pytest

from harness.answers import PATH, accept, not_required, process, process_house
from harness.clients import OpenSsh
from harness.policy import Policy
from harness.tmux import TMUX, Tmux
from harness.wire import string, u32

tmux_needed = pytest.mark.skipif(not TMUX, reason="tmux is not installed")


def tool(name: str) -> Callable:
    return pytest.mark.skipif(not shutil.which(name), reason=f"{name} is not installed")


@pytest.fixture
def screen(policy: Policy, ssh: OpenSsh, work: Path) -> Iterator[Tmux]:
    """A shell that prompts "ready$ "."""
    if not TMUX:
        pytest.skip("tmux is not installed")
    process_house(policy, keep_environment=True, env={**PATH, "PS1": "ready$ ", "HOME": str(work), "LC_ALL": "C.UTF-8"})
    tmux = Tmux(work, ssh.argv(), ssh.env())
    try:
        tmux.wait_line("ready$")
        yield tmux
    finally:
        tmux.close()


def test_a_shell_and_its_size(screen: Tmux) -> None:
    screen.type("stty size; tty; echo $TERM")
    screen.wait_line("24 80")
    screen.wait("/dev/pts/")
    screen.wait("-256color")
    screen.resize(132, 50)
    screen.type("stty size")
    screen.wait_line("50 132")


def test_a_resize_reaches_a_program_that_runs(screen: Tmux) -> None:
    screen.type("sh -c 'trap \"stty size\" WINCH; echo wait-ing; while :; do sleep 0.05; done'")
    screen.wait_line("wait-ing")
    screen.resize(100, 33)
    screen.wait_line("33 100")
    screen.keys("C-c")
    screen.wait("^C")


def test_ctrl_c_ends_the_foreground_only(screen: Tmux) -> None:
    screen.type("clear; echo a-sleep; sleep 1000")
    screen.wait_line("a-sleep")
    screen.keys("C-c")
    screen.wait("^C")
    screen.wait_line("ready$")
    screen.type("echo still-$((1+1))")
    screen.wait_line("still-2")


def test_ctrl_backslash_and_ctrl_d(screen: Tmux) -> None:
    screen.type("sh -c 'echo a-sleep; ulimit -c 0; exec sleep 1000'")
    screen.wait_line("a-sleep")
    screen.keys("C-\\")
    screen.wait("Quit")
    screen.wait_line("ready$")
    screen.type("echo a-cat; cat; echo cat=$?")
    screen.wait_line("a-cat")
    screen.type("typed line")
    screen.keys("C-d")
    screen.wait_line("cat=0")


def test_job_control(screen: Tmux) -> None:
    """^Z stops, bg and fg go on, jobs lists, ^C ends."""
    screen.type("sh -c 'echo a-sleep; exec sleep 1000'")
    screen.wait_line("a-sleep")
    screen.keys("C-z")
    screen.wait("Stopped")
    screen.type("bg; jobs")
    screen.wait("Running")
    screen.type("clear; fg")
    screen.wait("exec sleep 1000")
    screen.wait_gone("ready$")
    screen.keys("C-c")
    screen.wait("^C")
    screen.wait_line("ready$")
    screen.type("clear; jobs; echo none-left")
    screen.wait_line("none-left")
    assert "sleep" not in screen.screen


def test_ctrl_s_and_ctrl_q_hold_and_release(screen: Tmux) -> None:
    screen.keys("C-s")
    screen.type("echo held-$((40+2))")
    screen.keys("C-q")
    screen.wait_line("held-42")


@tool("vim")
def test_vim(screen: Tmux, work: Path) -> None:
    screen.type(f"vim -u NONE -N {work}/text")
    screen.wait("[New]")
    screen.keys("i")
    screen.wait("-- INSERT --")
    screen.type("first line")
    screen.keys("second ünïcödé line")
    screen.keys("Escape")
    screen.wait_gone("-- INSERT --")
    screen.keys("k", "0", "d", "w", ":", "w", "q", "Enter")
    screen.wait_line("ready$")
    assert (work / "text").read_text() == "line\nsecond ünïcödé line\n"


@tool("less")
def test_less(screen: Tmux, work: Path) -> None:
    (work / "long").write_text("".join(f"line {n} of it\n" for n in range(1, 1001)))
    screen.type(f"less {work}/long")
    screen.wait_line("line 1 of it")
    screen.keys("G")
    screen.wait_line("line 1000 of it")
    screen.keys("g")
    screen.wait_line("line 1 of it")
    screen.type("/line 500")
    screen.wait_line("line 500 of it")
    screen.keys("q")
    screen.wait_gone("line 500 of it")
    screen.wait("ready$")


@tool("top")
def test_top(screen: Tmux) -> None:
    screen.type("top -d 0.2")
    screen.wait("load average")
    screen.wait("PID")
    screen.resize(60, 15)
    screen.wait("load average")
    screen.keys("q")
    screen.wait_line("ready$")
    screen.type("clear; echo left-top")
    screen.wait_line("left-top")


def test_the_escape_of_the_client_ends_it_all(screen: Tmux) -> None:
    """~. on a line of its own."""
    screen.type("exec sleep 1000")
    screen.keys("~", ".")
    assert screen.wait_ended() == 255


# ---- modes, byte for byte

OPCODES = {
    # opcode: what stty(1) shows when its value is not 0 (RFC 4254 section 8, RFC 8160)
    30: "ignpar", 31: "parmrk", 32: "inpck", 33: "istrip", 34: "inlcr", 35: "igncr", 36: "icrnl", 37: "iuclc",
    38: "ixon", 39: "ixany", 40: "ixoff", 41: "imaxbel", 42: "iutf8",
    50: "isig", 51: "icanon", 52: "xcase", 53: "echo", 54: "echoe", 55: "echok", 56: "echonl", 57: "noflsh",
    58: "tostop", 59: "iexten", 60: "echoctl", 61: "echoke",
    70: "opost", 71: "olcuc", 72: "onlcr", 73: "ocrnl", 74: "onocr", 75: "onlret",
}  # fmt: skip
CHARACTERS = {
    1: "intr", 2: "quit", 3: "erase", 4: "kill", 5: "eof", 6: "eol", 7: "eol2", 8: "start", 9: "stop", 10: "susp",
    12: "rprnt", 13: "werase", 14: "lnext", 16: "swtch", 18: "discard",
}  # fmt: skip


def stty(raw, modes: bytes, size: tuple[int, int, int, int] = (80, 24, 0, 0)) -> tuple[dict[str, str], set[str], bytes]:
    """Characters by name, flags, and the first line, as stty -a shows them on a terminal of these modes."""
    client = raw().login()
    number = client.open()
    assert client.request(number, "pty-req", string("xterm") + b"".join(map(u32, size)) + string(modes))
    assert client.request(number, "exec", string("x"))
    text = b""
    while (message := client.until(94, 96)).type == 94:
        message.u32()
        text += message.string()
    lines = text.decode().replace("\r", "").lower().split("\n")
    words = " ".join(lines[1:]).replace(";", "\n")
    characters = {}
    for entry in words.split("\n"):
        if " = " in entry:
            name, _, value = entry.strip().partition(" = ")
            characters[name] = value.split()[0]
    return characters, set(words.split()), text


@pytest.fixture
def shown(policy: Policy) -> None:
    policy.on.BeginAuth = not_required()
    policy.on.SessionRequested = accept()
    policy.on.ExecRequested = process("/bin/stty", "-a", env={"LC_ALL": "C"})


@pytest.mark.parametrize("on", [True, False])
def test_every_flag(shown: None, raw, on: bool) -> None:
    modes = b"".join(bytes([opcode]) + u32(int(on)) for opcode in OPCODES) + b"\0"
    _, flags, text = stty(raw, modes)
    for name in OPCODES.values():
        assert (name if on else f"-{name}") in flags, (name, text)


def test_every_character(shown: None, raw) -> None:
    """Each gets one of its own; 255 is none."""
    modes = b"".join(bytes([opcode]) + u32(ord("A") + n) for n, opcode in enumerate(CHARACTERS)) + b"\0"
    characters, _, text = stty(raw, modes)
    for n, name in enumerate(CHARACTERS.values()):
        assert characters[name] == chr(ord("a") + n), (name, text)
    characters, _, text = stty(raw, b"".join(bytes([opcode]) + u32(255) for opcode in CHARACTERS) + b"\0")
    for name in CHARACTERS.values():
        assert characters[name] == "<undef>", (name, text)


def test_speed_and_size(shown: None, raw) -> None:
    _, _, text = stty(raw, b"\x80" + u32(9600) + b"\x81" + u32(9600) + b"\0", (132, 43, 1000, 600))
    assert b"speed 9600 baud; rows 43; columns 132" in text


def test_sizes_beyond_what_a_terminal_has(shown: None, raw) -> None:
    _, _, text = stty(raw, b"", (100000, 0xFFFFFFFF, 0, 0))
    assert b"rows 65535; columns 65535" in text


def test_unknown_modes_change_nothing(shown: None, raw) -> None:
    plain = stty(raw, b"\0")[2]
    odd = b"".join(bytes([opcode]) + u32(1) for opcode in (11, 15, 17, 19, 29, 43, 49, 63, 69, 76, 89, 94, 127, 130, 159))
    assert stty(raw, odd + b"\xa0whatever")[2] == plain
    assert stty(raw, b"")[2] == plain


def test_break(policy: Policy, raw) -> None:
    """What a serial line would do: an interrupt if BRKINT, nothing if IGNBRK, else a NUL; without a terminal it fails."""
    process_house(policy)

    def start(stty: str, then: str = "head -c 1 | od -An -tx1") -> tuple[object, int]:
        client = raw().login()
        number = client.open()
        assert client.request(number, "pty-req", string("xterm") + u32(80) + u32(24) + u32(0) * 2 + string(b""))
        command = f"trap 'echo interrupted; exit' INT; stty -icanon -echo {stty}; echo ready; {then}"
        assert client.request(number, "exec", string(command))
        until(client, b"ready\r\n")
        return client, number

    def until(client: object, text: bytes) -> None:
        got = b""
        while text not in got:
            message = client.until(94)
            message.u32()
            got += message.string()

    client, number = start("brkint -ignbrk", "while :; do sleep 0.05; done")
    client.send(client.request_message(number, "break", u32(500), reply=False))
    until(client, b"interrupted\r\n")
    client, number = start("-brkint -ignbrk")
    client.send(client.request_message(number, "break", u32(0), reply=False))
    until(client, b" 00\r\n")
    client, number = start("-brkint ignbrk")
    assert client.request(number, "break", u32(0))
    client.data(number, b"x")
    until(client, b" 78\r\n")
    client = raw().login()
    number = client.execute("exec cat")
    assert not client.request(number, "break", u32(0))
