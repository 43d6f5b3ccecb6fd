"""The end of a program: its own, its channel's, its client's; and that nothing is left behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from harness.answers import process_house
from harness.clients import OpenSsh, socket_path, terminate
from harness.daemon import Daemon, children_of, is_sanitized, rss_kib
from harness.policy import Policy
from harness.wait import poll

IGNORES_HUP = "trap '' HUP; echo $$; while :; do sleep 0.1; done"


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def descriptors(daemon: Daemon) -> int:
    return len(os.listdir(f"/proc/{daemon.pid}/fd"))


def wait_nothing_left(daemon: Daemon, before: int) -> None:
    poll(lambda: not children_of(daemon.pid), "no child, no zombie")
    poll(lambda: descriptors(daemon) <= before, f"{before} descriptors again")


def first_line(client) -> int:
    return int(client.stdout.readline())


@pytest.mark.parametrize("command", ["echo $$; cat", IGNORES_HUP, "echo $$; kill -STOP $$", "echo $$; exec >&- 2>&-; sleep 1000"])
@pytest.mark.parametrize("pty", [False, True])
def test_a_client_that_vanishes_ends_its_program(policy: Policy, daemon: Daemon, ssh: OpenSsh, command: str, pty: bool) -> None:
    """Soon (a second and a little), also one that ignores HUP."""
    process_house(policy)
    before = descriptors(daemon)
    client = ssh.popen(command, options=("-tt",) if pty else ())
    pid = first_line(client)
    assert children_of(daemon.pid) == [pid]
    client.kill()
    poll(lambda: not exists(pid), "the program's end")
    wait_nothing_left(daemon, before)


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_client_that_vanishes_in_the_middle_of_a_transfer(policy: Policy, daemon: Daemon, ssh: OpenSsh, way: str) -> None:
    process_house(policy)
    before = descriptors(daemon)
    client = ssh.popen("echo $$; exec cat /dev/zero" if way == "down" else "echo $$; exec cat >/dev/null")
    pid = first_line(client)
    if way == "down":
        assert client.stdout.read(1 << 20) == bytes(1 << 20)
    else:
        client.stdin.write(bytes(1 << 20))
    client.kill()
    poll(lambda: not exists(pid), "the program's end")
    wait_nothing_left(daemon, before)


def test_hup_is_what_it_gets_first(policy: Policy, daemon: Daemon, ssh: OpenSsh, work: Path) -> None:
    process_house(policy)
    client = ssh.popen(f"exec 2>/dev/null; trap 'echo hup > {work}/mark; exit' HUP; echo $$; while :; do sleep 0.05; done")
    first_line(client)
    client.kill()
    poll((work / "mark").exists, "the trap")
    poll(lambda: not children_of(daemon.pid), "no child")


def test_the_whole_group_is_ended(policy: Policy, daemon: Daemon, ssh: OpenSsh) -> None:
    """Not only the program itself: what it started, too, though it ignores HUP."""
    process_house(policy)
    client = ssh.popen("(trap '' HUP; exec sleep 1000) & echo $!; wait")
    pid = first_line(client)
    assert exists(pid)
    client.kill()
    poll(lambda: not exists(pid), "the end of the group")
    poll(lambda: not children_of(daemon.pid), "no child")


def test_a_job_of_the_foreground_is_ended(policy: Policy, daemon: Daemon, ssh: OpenSsh) -> None:
    """It is a group of its own on a terminal with job control."""
    process_house(policy)
    terminal = ssh.terminal()
    terminal.write(b"PS1=; stty -echo; bash -c 'trap \"\" HUP; echo pid-$$-; while :; do sleep 0.1; done'\r")
    terminal.wait_shown(b"-\r\n")
    pid = int(bytes(terminal.shown).rpartition(b"pid-")[2].split(b"-")[0])
    assert os.getsid(pid) in children_of(daemon.pid) and os.getpgid(pid) == pid
    terminal.process.kill()
    poll(lambda: not exists(pid), "the end of the job")
    poll(lambda: not children_of(daemon.pid), "no child")


def test_a_closed_channel_ends_its_program_and_no_other(policy: Policy, daemon: Daemon, raw) -> None:
    """Two on one connection."""
    process_house(policy)
    client = raw().login()
    numbers, pids = [], []
    for channel in range(2):
        numbers.append(client.execute("echo $$; exec cat", channel=channel))
        data = client.until(94)
        assert data.u32() == channel
        pids.append(int(data.string()))
    client.close_channel(numbers[0])
    poll(lambda: not exists(pids[0]), "the end of the first")
    assert exists(pids[1])
    client.close()
    poll(lambda: not exists(pids[1]), "the end of the second")


def test_output_of_what_it_left_behind_still_arrives(policy: Policy, daemon: Daemon, ssh: OpenSsh) -> None:
    """As with OpenSSH: without a terminal the channel lives as long as somebody holds its output."""
    process_house(policy)
    result = ssh.run("(sleep 0.3; echo later) & echo now; exit 4")
    assert (result.status, result.out) == (4, b"now\nlater\n"), result
    poll(lambda: not children_of(daemon.pid), "no child")


def test_a_terminal_ends_with_its_program(policy: Policy, daemon: Daemon, ssh: OpenSsh) -> None:
    """Whoever else holds it: no logout hangs for a job in the background."""
    process_house(policy)
    result = ssh.run("trap '' HUP; sleep 1000 & echo $!; exit 6", options=("-tt",))
    assert result.status == 6, result
    os.kill(int(result.out), signal.SIGKILL)
    poll(lambda: not children_of(daemon.pid), "no child")


def test_everything_a_terminal_showed_arrives_before_its_end(policy: Policy, ssh: OpenSsh) -> None:
    process_house(policy)
    result = ssh.run("seq 1 100000", options=("-tt",))
    assert result.out == b"".join(b"%d\r\n" % n for n in range(1, 100001))


def test_signals(policy: Policy, daemon: Daemon, raw) -> None:
    """To the whole group; a name that nobody knows changes nothing."""
    process_house(policy)
    client = raw().login()
    names = ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "ALRM")
    traps = " ".join(f"trap 'echo {name}' {name};" for name in names)
    number = client.execute(f"{traps} echo ready; while :; do sleep 0.05; done")

    def said() -> bytes:
        message = client.until(94)
        message.u32()
        return message.string()

    assert said() == b"ready\n"
    for name in ("NONSENSE", "INFO@openssh.com", "SIGINT"):
        assert client.request(number, "signal", len(name).to_bytes(4, "big") + name.encode())
    for name in names:
        client.send(client.request_message(number, "signal", len(name).to_bytes(4, "big") + name.encode(), reply=False))
        assert said() == name.encode() + b"\n"
    client.send(client.request_message(number, "signal", b"\0\0\0\4KILL", reply=False))
    request = client.until(98)
    assert (request.u32(), request.string(), request.boolean(), request.string()) == (0, b"exit-signal", False, b"KILL")


def test_the_end_of_the_daemon_ends_programs(policy: Policy, start_daemon, connect_ssh) -> None:
    """Also those that ignore HUP; and none stays a zombie of somebody else."""
    process_house(policy)
    daemon = start_daemon()
    clients = [connect_ssh(daemon).popen(command) for command in ("echo $$; cat", IGNORES_HUP)]
    pids = [first_line(client) for client in clients]
    daemon.stop()
    for pid in pids:
        poll(lambda pid=pid: not exists(pid), "the program's end")


def test_the_sudden_death_of_the_daemon_ends_programs(policy: Policy, start_daemon, connect_ssh) -> None:
    process_house(policy)
    daemon = start_daemon()
    client = connect_ssh(daemon).popen("echo $$; exec >&- 2>&- <&-; exec sleep 1000")
    pid = first_line(client)
    daemon.kill()
    poll(lambda: not exists(pid) or "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0], "the program's end")


def test_500_short_sessions_leave_nothing(policy: Policy, daemon: Daemon, raw) -> None:
    """Programs and terminals in turn: memory and descriptors are flat, no child stays."""
    process_house(policy, keep_environment=True)
    client = raw().login()

    def short(count: int) -> None:
        for i in range(count):
            number = client.open()
            if i % 5 == 0:
                size = b"".join(n.to_bytes(4, "big") for n in (80, 24, 0, 0))
                assert client.request(number, "pty-req", b"\0\0\0\5xterm" + size + b"\0\0\0\0")
            command = b"echo hello; exit 3"
            assert client.request(number, "exec", len(command).to_bytes(4, "big") + command)
            status = client.until(98)
            assert (status.u32(), status.string(), status.boolean(), status.u32()) == (0, b"exit-status", False, 3)
            client.until(97)
            client.close_channel(number)

    short(50)
    poll(lambda: not children_of(daemon.pid), "no child")
    memory, fds = rss_kib(daemon.pid), descriptors(daemon)
    short(450)
    poll(lambda: not children_of(daemon.pid), "no child")
    assert descriptors(daemon) <= fds
    if not is_sanitized(daemon.pid):
        assert rss_kib(daemon.pid) - memory < 1024, "KiB for 450 sessions"


def test_64_sessions_on_one_connection(policy: Policy, start_daemon, connect_ssh) -> None:
    """Each echoes its own lines while all the others are there."""
    process_house(policy)
    daemon = start_daemon("--max-sessions", "64")
    ssh = connect_ssh(daemon)
    path = socket_path(ssh.work)
    master = ssh.popen(options=("-M", "-N", "-S", str(path)))
    poll(path.exists, "the master's socket")
    sessions = [ssh.popen("exec cat", options=("-S", str(path))) for _ in range(64)]
    for turn in range(3):
        for i, session in enumerate(sessions):
            session.stdin.write(b"%d says %d\n" % (i, turn))
            session.stdin.flush()
        for i, session in enumerate(sessions):
            assert session.stdout.readline() == b"%d says %d\n" % (i, turn)
    assert len(children_of(daemon.pid)) == 64
    for session in sessions:
        session.stdin.close()
        assert session.wait(60) == 0
    poll(lambda: not children_of(daemon.pid), "no child")
    terminate(master)
