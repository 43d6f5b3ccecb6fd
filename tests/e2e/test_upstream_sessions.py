"""Sessions that go on at another server: terminals, programs and what they exchange, with stock clients and a stock sshd."""

from __future__ import annotations

import asyncio
import random
import threading
from pathlib import Path
from typing import Any, Callable, Iterator

import asyncssh
import pytest

from harness import wire
from harness.answers import allow, process_house, upstream, upstream_house
from harness.clients import OpenSsh, socket_path, terminate
from harness.contract import pb
from harness.daemon import Daemon
from harness.keys import Key
from harness.policy import Policy
from harness.rawclient import RawClient
from harness.rawserver import RawServed, raw_hop
from harness.sshd import Sshd, host_line
from harness.tmux import TMUX, Tmux
from harness.wait import PATIENCE_S, poll
from harness.wire import Reader, boolean, string, u32

Raw = Callable[..., RawClient]


@pytest.fixture
def house(policy: Policy, sshd: Sshd) -> Policy:
    """Everything goes on at sshd."""
    return upstream_house(policy, sshd.hop())


def output(client: RawClient, wanted: bytes = b"") -> bytes:
    """What the program writes until this is there, or until it ends."""
    got = bytearray()
    while not wanted or wanted not in got:
        message = client.until(94, 96, 97)
        if message.type != 94:
            break
        message.u32()
        got += message.string()
    assert wanted in got, bytes(got)
    return bytes(got)


# ---- input, output, end


def test_input_output_and_errors_are_three(house: Policy, ssh: OpenSsh) -> None:
    result = ssh.run("cat; echo to stderr >&2; exit 3", stdin=b"from stdin\n")
    assert (result.status, result.out, result.err) == (3, b"from stdin\n", "to stderr\n"), result


@pytest.mark.parametrize("status", [0, 1, 42, 255])
def test_exit_status(house: Policy, ssh: OpenSsh, status: int) -> None:
    assert ssh.run(f"exit {status}").status == status


def test_a_shell_without_a_terminal(house: Policy, ssh: OpenSsh) -> None:
    result = ssh.run(stdin=b"echo from the shell; exit 9\n")
    assert (result.status, result.out) == (9, b"from the shell\n"), result


def test_a_program_chosen_with_the_session(house: Policy, sshd: Sshd, ssh: OpenSsh) -> None:
    house.on.SessionRequested = upstream(sshd.hop())
    house.on.ExecRequested = None
    assert ssh.run("echo there; exit 4").out == b"there\n"


@pytest.mark.parametrize("name", ["TERM", "KILL", "SEGV", "USR1"])
def test_exit_signal(house: Policy, raw: Raw, name: str) -> None:
    client = raw().login()
    client.execute(f"kill -{name} $$")
    request = client.until(98)
    assert (request.u32(), request.string(), request.boolean(), request.string()) == (0, b"exit-signal", False, name.encode())


def test_all_of_an_exit_signal_passes(policy: Policy, start_raw_server: Any, raw: Raw) -> None:
    def script(served: RawServed) -> None:
        number = served.greet().login().session()
        served.tell(number, "exit-signal", string("X@example.org") + boolean(True) + string("very däd") + string("de"))
        served.finish(number)
        served.drain()

    server = start_raw_server(script)
    upstream_house(policy, raw_hop(server))
    client = raw().login()
    client.execute("x")
    request = client.until(98)
    assert (request.u32(), request.string(), request.boolean(), request.string()) == (0, b"exit-signal", False, b"X@example.org")
    assert (request.boolean(), request.string().decode(), request.string()) == (True, "very däd", b"de")


def test_the_status_comes_before_the_last_eof(policy: Policy, start_raw_server: Any, raw: Raw) -> None:
    """A client that has sent its own EOF closes the channel on ours, and would never learn the status."""

    def script(served: RawServed) -> None:
        number = served.greet().login().session()
        served.until(wire.CHANNEL_EOF)
        served.send(bytes([wire.CHANNEL_EOF]) + u32(number))
        served.send(bytes([wire.GLOBAL_REQUEST]) + string("until here") + boolean(True))
        served.until(wire.REQUEST_FAILURE)
        served.tell(number, "exit-status", u32(7))
        served.send(bytes([wire.CHANNEL_CLOSE]) + u32(number))
        served.drain()

    upstream_house(policy, raw_hop(start_raw_server(script)))
    client = raw().login()
    client.eof(client.execute("x"))
    assert [client.expect(96, 97, 98).type for _ in range(3)] == [98, 96, 97]


def test_half_close(house: Policy, ssh: OpenSsh) -> None:
    result = ssh.run("sort; echo end", stdin=b"c\nb\na\n")
    assert (result.status, result.out) == (0, b"a\nb\nc\nend\n"), result


def test_output_ends_before_the_program(house: Policy, ssh: OpenSsh, work: Path) -> None:
    client = ssh.popen(f"exec >&- 2>&-; cat >/dev/null; echo done > {work}/mark; exit 5")
    assert client.stdout.read() == b""
    assert not (work / "mark").exists()
    client.stdin.close()
    assert client.wait(PATIENCE_S) == 5
    assert (work / "mark").exists()


def test_a_command_byte_for_byte(house: Policy, raw: Raw) -> None:
    client = raw().login()
    client.execute(b"printf %s ' \xff\xfe a\n\t\"$(x) \xc3\xa9 '")
    assert output(client) == b" \xff\xfe a\n\t\"$(x) \xc3\xa9 "


def test_a_large_output_on_stderr(house: Policy, ssh: OpenSsh) -> None:
    result = ssh.run("head -c 5000000 /dev/zero >&2; exit 2")
    assert (result.status, result.out, len(result.err)) == (2, b"", 5_000_000)


def test_line_by_line(house: Policy, ssh: OpenSsh) -> None:
    client = ssh.popen('while read -r line; do echo "$line"; done')
    for n in range(300):
        client.stdin.write(b"%d\n" % n)
        client.stdin.flush()
        assert client.stdout.readline() == b"%d\n" % n
    client.stdin.close()
    assert client.wait(PATIENCE_S) == 0


def test_what_comes_before_the_other_server_is_reached(policy: Policy, start_raw_server: Any, daemon: Daemon, raw: Raw) -> None:
    """Is kept, in order, and no more of it than the window allows."""
    gate = threading.Event()
    came: list[Any] = []

    def script(served: RawServed) -> None:
        gate.wait(PATIENCE_S)
        number, _, _ = served.greet().login().take_open()
        served.confirm(number)
        data = bytearray()
        while (message := served.until(wire.CHANNEL_REQUEST, wire.CHANNEL_DATA, wire.CHANNEL_EOF)).type != wire.CHANNEL_EOF:
            message.u32()
            if message.type == wire.CHANNEL_DATA:
                data += message.string()
            else:
                name, reply = message.string().decode(), message.boolean()
                came.append((name, message.message[10 + len(name) :]))
                if reply:
                    served.send(bytes([wire.CHANNEL_SUCCESS]) + u32(number))
        came.append(bytes(data))
        served.finish(number, 5)
        served.drain()

    server = start_raw_server(script)
    upstream_house(policy, raw_hop(server, connect_timeout_s=60))
    client = raw().login()
    number = client.open()
    assert client.request(number, "pty-req", string("vt100") + SIZE + string(b"\x35" + u32(0) + b"\0"))
    assert client.request(number, "env", string("LANG") + string("C"))
    assert client.request(number, "exec", string("the program"))
    client.send(client.request_message(number, "window-change", u32(100) + u32(30) + u32(0) * 2, reply=False))
    client.send(client.request_message(number, "window-change", u32(132) + u32(43) + u32(0) * 2, reply=False))
    client.send(client.request_message(number, "signal", string("USR1"), reply=False))
    client.send(client.request_message(number, "break", u32(700), reply=True))
    data = random.Random(2).randbytes(2 << 20)
    for at in range(0, len(data), 32768):
        client.data(number, data[at : at + 32768])
    client.eof(number)
    server.wait_served()
    assert client.global_request("all of it has come") is False
    gate.set()
    status = client.until(98)
    assert (status.u32(), status.string(), status.boolean(), status.u32()) == (0, b"exit-status", False, 5)
    assert [each[0] for each in came[:-1]] == ["pty-req", "env", "exec", "window-change", "signal", "break"]
    fields = dict(came[:-1])
    assert fields["pty-req"] == string("vt100") + SIZE + string(b"\x35" + u32(0) + b"\0")
    assert fields["exec"] == string("the program") and fields["window-change"] == u32(132) + u32(43) + u32(0) * 2
    assert fields["signal"] == string("USR1") and fields["break"] == u32(700)
    assert came[-1] == data


def test_a_client_that_goes_ends_the_program(house: Policy, sshd: Sshd, ssh: OpenSsh) -> None:
    client = ssh.popen("echo $$; exec cat")
    pid = int(client.stdout.readline())
    client.kill()
    poll(lambda: not Path(f"/proc/{pid}").exists(), "the program's end")
    sshd.wait_connections(0)


def test_a_client_that_reads_no_more_ends_the_program(house: Policy, start_daemon: Any, connect_ssh: Any) -> None:
    """eow@openssh.com goes on to the other server: `yes` gets SIGPIPE."""
    client = connect_ssh(start_daemon("--version-comment", "OpenSSH_9.9_Parley")).popen("echo $$; exec yes")
    pid = int(client.stdout.readline())
    client.stdout.close()
    client.wait(PATIENCE_S)
    poll(lambda: not Path(f"/proc/{pid}").exists(), "the program's end")


# ---- what it is given


def test_environment(house: Policy, ssh: OpenSsh) -> None:
    """What was allowed here, and what the server there accepts."""
    house.on.EnvRequested = lambda request, _: pb.GrantAnswer(
        **({"deny": pb.Deny()} if request.variable.name == b"TEST_DENIED" else {"allow": pb.Allow()})
    )
    variables = "SetEnv=TEST_ONE=1 TEST_DENIED=2 OTHER=3 TEST_TWO=two"
    result = ssh.run('echo "$TEST_ONE,$TEST_DENIED,$OTHER,$TEST_TWO"', options=("-o", variables))
    assert result.out == b"1,,,two\n", result


def test_values_byte_for_byte(house: Policy, raw: Raw) -> None:
    client = raw().login()
    number = client.open()
    assert client.request(number, "env", string("TEST_X") + string(b"\xff=\n '"))
    assert client.request(number, "exec", string('printf %s "$TEST_X"'))
    assert output(client) == b"\xff=\n '"


def test_a_forced_command(house: Policy, ssh: OpenSsh) -> None:
    """The login's restrictions hold at the other server, too; ours is the one that enforces them."""
    restrictions = pb.Restrictions(force_command=b"echo forced", environment=[pb.EnvVar(name=b"TEST_SET", value=b"x")])
    house.on.AuthCompleted = pb.AuthCompletedAnswer(allow=allow(restrictions=restrictions))
    assert ssh.run("echo mine").out == b"forced\n"
    assert ssh.run(stdin=b"echo mine\n").out == b"forced\n"


def test_neither_agent_nor_x11_goes_on(house: Policy, ssh: OpenSsh, sshd: Sshd) -> None:
    """Allowed or not: what is granted is granted to us."""
    result = ssh.run("echo $SSH_AUTH_SOCK$DISPLAY-", options=("-A", "-X"), env={"DISPLAY": ":99"})
    assert result.out == b"-\n", result


# ---- terminals

SIZE = u32(80) + u32(24) + u32(640) + u32(480)


def test_terminal_modes_and_size(house: Policy, raw: Raw) -> None:
    """As they came, those included that only the far end knows."""
    client = raw().login()
    number = client.open()
    modes = b"\x03" + u32(0x45) + b"\x35" + u32(0) + b"\x24" + u32(0) + b"\x80" + u32(9600) + b"\x81" + u32(9600) + b"\0"
    assert client.request(number, "pty-req", string("vt220") + SIZE + string(modes))
    assert client.request(number, "exec", string("echo $TERM; stty -a"))
    words = output(client).decode().replace(";", "").split()
    assert words[0] == "vt220" and {"24", "80", "9600", "-echo", "-icrnl"} <= set(words)
    assert words[words.index("erase") + 2] == "E"


def test_the_exit_status_of_a_terminal(house: Policy, ssh: OpenSsh) -> None:
    result = ssh.run("tty; exit 6", options=("-tt",))
    assert result.status == 6 and result.out.startswith(b"/dev/pts/"), result


@pytest.fixture
def screen(house: Policy, ssh: OpenSsh, work: Path) -> Iterator[Tmux]:
    """A shell there that prompts "ready$ "."""
    if not TMUX:
        pytest.skip("tmux is not installed")
    tmux = Tmux(work, ssh.argv(), ssh.env())
    try:
        tmux.type("exec env PS1='ready$ ' LC_ALL=C.UTF-8 bash --noprofile --norc")
        tmux.wait_line("ready$")
        tmux.type("clear")
        tmux.wait_gone("exec env")
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


def test_ctrl_d_ends_it(screen: Tmux) -> None:
    screen.type("PS1='<$?> '; (exit 7)")
    screen.wait_line("<7>")  # typed before the shell reads again, the key would be the terminal's
    screen.keys("C-d")
    assert screen.wait_ended() == 7


# ---- signals and breaks: another parleyd passes them to programs, which sshd does not for root


@pytest.fixture
def far(work: Path, policy: Policy, start_daemon: Any, host_key: Key) -> Iterator[Daemon]:
    """Another parleyd, to which everything goes on; it runs programs."""
    with Policy(f"unix:{work}/far.sock") as far_policy:
        process_house(far_policy, keep_environment=True)
        daemon = start_daemon(policy=far_policy.target)
        line = host_line("127.0.0.1", daemon.port, host_key.public)
        upstream_house(policy, pb.UpstreamHop(host="127.0.0.1", port=daemon.port, known_hosts=line.encode(), password="not asked for"))
        yield daemon


def test_signals(far: Daemon, raw: Raw) -> None:
    client = raw().login()
    names = ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "ALRM")
    traps = " ".join(f"trap 'echo {name}' {name};" for name in names)
    number = client.execute(f"{traps} echo ready; while :; do sleep 0.05; done")
    output(client, b"ready\n")
    for name in names:
        client.send(client.request_message(number, "signal", string(name), reply=False))
        assert output(client, b"\n") == name.encode() + b"\n"
    client.send(client.request_message(number, "signal", string("KILL"), reply=False))
    request = client.until(98)
    assert (request.u32(), request.string(), request.boolean(), request.string()) == (0, b"exit-signal", False, b"KILL")


def test_breaks_and_their_answers(far: Daemon, raw: Raw) -> None:
    client = raw().login()
    number = client.open()
    assert client.request(number, "pty-req", string("xterm") + SIZE + string(b""))
    command = "trap 'echo interrupted' INT; stty -icanon -echo brkint -ignbrk; echo ready; while :; do sleep 0.05; done"
    assert client.request(number, "exec", string(command))
    output(client, b"ready\r\n")
    assert client.request(number, "break", u32(500))
    output(client, b"interrupted\r\n")
    client.send(client.request_message(number, "break", u32(0), reply=False))
    output(client, b"interrupted\r\n")
    plain = raw().login()
    number = plain.execute("exec cat")
    assert not plain.request(number, "break", u32(0))  # no terminal, no break


class Witness(asyncssh.SSHServerSession):
    """Notes what a session is told."""

    def __init__(self, notes: list[Any]) -> None:
        self.notes = notes

    def connection_made(self, chan: Any) -> None:
        self.chan = chan

    def pty_requested(self, term: str, size: tuple, modes: dict) -> bool:
        self.notes.append(("pty", term, size, dict(modes)))
        return term != "refused"

    def exec_requested(self, command: str) -> bool:
        self.notes.append(("exec", command))
        return command != "refused"

    def session_started(self) -> None:
        self.chan.set_xon_xoff(True)
        self.chan.write(b"started\n")

    def signal_received(self, signal: str) -> None:
        self.notes.append(("signal", signal))

    def break_received(self, msec: int) -> bool:
        self.notes.append(("break", msec))
        return msec != 4000

    def terminal_size_changed(self, *size: int) -> None:
        self.notes.append(("size", size))

    def data_received(self, data: bytes, datatype: Any) -> None:
        self.notes.append(("data", data))
        if data == b"end":
            self.chan.exit(3)

    def eof_received(self) -> bool:
        self.notes.append(("eof",))
        return True


class WitnessServer(asyncssh.SSHServer):
    def __init__(self, notes: list[Any]) -> None:
        self.notes = notes

    def begin_auth(self, username: str) -> bool:
        self.notes.append(("user", username))
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return password == "right"

    def session_requested(self) -> Witness:
        return Witness(self.notes)


@pytest.fixture
def witness(policy: Policy, start_async_server: Any, other_key: Key) -> list[Any]:
    """What a server of asyncssh's, to which everything goes on, has been told."""
    notes: list[Any] = []
    server = start_async_server(lambda: WitnessServer(notes), [("127.0.0.1", other_key)])
    hosts = server.known_hosts("127.0.0.1").encode()
    upstream_house(policy, pb.UpstreamHop(host="127.0.0.1", port=server.port, known_hosts=hosts, password="right"))
    return notes


def test_with_asyncssh_at_both_ends(witness: list[Any], daemon: Daemon) -> None:
    """Sizes, signals and breaks arrive in order; the name of the login is the same where no other is named."""

    async def main() -> Any:
        options = {"username": "alice", "known_hosts": None, "client_keys": None, "agent_path": None, "config": None}
        async with asyncssh.connect("127.0.0.1", daemon.port, **options) as connection:
            process = await connection.create_process("x", term_type="vt100", term_size=(81, 25, 7, 8), encoding=None)
            assert await process.stdout.readline() == b"started\n"
            process.change_terminal_size(132, 43, 1, 2)
            process.send_signal("USR1")
            process.send_break(1234)
            process.stdin.write(b"end")
            return (await process.wait()).exit_status

    assert asyncio.run(asyncio.wait_for(main(), PATIENCE_S)) == 3
    kinds = [note for note in witness if note[0] != "pty"]
    order = [("user", "alice"), ("exec", "x"), ("size", (132, 43, 1, 2)), ("signal", "USR1"), ("break", 1234), ("data", b"end")]
    assert [note for note in kinds if note[0] not in ("eof",)] == order
    assert next(note for note in witness if note[0] == "pty")[1:3] == ("vt100", (81, 25, 7, 8))


def test_answers_to_breaks_and_flow_control(witness: list[Any], raw: Raw) -> None:
    client = raw().login()
    number = client.execute("x")
    flow = client.until(98)
    assert (flow.u32(), flow.string(), flow.boolean(), flow.boolean()) == (0, b"xon-xoff", False, True)
    client.until(94)
    assert client.request(number, "break", u32(1))
    assert not client.request(number, "break", u32(4000))
    assert client.request(number, "break", u32(2))
    assert [note[1] for note in witness if note[0] == "break"] == [1, 4000, 2]


# ---- what the other server refuses


def test_a_program_that_is_refused(witness: list[Any], ssh: OpenSsh) -> None:
    result = ssh.run("refused")
    assert (result.status, result.out) == (255, b"") and result.err.strip(), result


def test_a_terminal_that_is_refused(house: Policy, start_sshd: Any, ssh: OpenSsh) -> None:
    """ssh(1) goes on without one; the user is told, or has none."""
    sshd = start_sshd("PermitTTY no")
    upstream_house(house, sshd.hop())
    result = ssh.run("tty; echo after", options=("-tt",))
    assert result.err.strip() or b"not a tty" in result.out, result


def test_a_subsystem_that_is_not_there(house: Policy, ssh: OpenSsh) -> None:
    result = ssh.run("nonsense", options=("-s",))
    assert result.status == 255 and result.err.strip(), result


def test_a_session_that_is_refused(policy: Policy, start_sshd: Any, ssh: OpenSsh) -> None:
    upstream_house(policy, start_sshd("MaxSessions 0").hop())
    result = ssh.run("echo no")
    assert (result.status, result.out) == (255, b"") and result.err.strip(), result


def test_opens_of_the_other_server_are_refused(policy: Policy, start_raw_server: Any, ssh: OpenSsh) -> None:
    """We asked for nothing that it could open; sessions least of all."""
    answers: list[Reader] = []

    def script(served: RawServed) -> None:
        number = served.greet().login().session()
        for kind in ("session", "x11", "auth-agent@openssh.com", "forwarded-tcpip", "direct-tcpip", "nonsense"):
            served.send(RawClient.open_message(kind, 7, string("127.0.0.1") + u32(22) + string("127.0.0.1") + u32(1)))
            answers.append(served.until(91, 92))
        served.finish(number, 5)
        served.drain()

    server = start_raw_server(script)
    upstream_house(policy, raw_hop(server))
    assert ssh.run("x").status == 5
    assert [answer.type for answer in answers] == [92] * 6


def test_global_requests_of_the_other_server(policy: Policy, start_raw_server: Any, ssh: OpenSsh) -> None:
    """Keepalives are answered, host keys and nonsense are passed over: nothing of it goes on to the client."""
    answers: list[int] = []

    def script(served: RawServed) -> None:
        number = served.greet().login().session()
        served.send(bytes([80]) + string("hostkeys-00@openssh.com") + boolean(False) + string(served.key.blob))
        for name in ("keepalive@openssh.com", "tcpip-forward", "nonsense"):
            served.send(bytes([80]) + string(name) + boolean(True) + string("") + u32(0))
            answers.append(served.until(81, 82).type)
        served.tell(number, "keepalive@openssh.com", reply=True)
        answers.append(served.until(99, 100).type)
        served.finish(number, 5)
        served.drain()

    server = start_raw_server(script)
    upstream_house(policy, raw_hop(server))
    assert ssh.run("x").status == 5
    assert answers == [82, 82, 82, 100]


# ---- many on one


def test_many_sessions_through_one_connection(house: Policy, sshd: Sshd, start_daemon: Any, connect_ssh: Any) -> None:
    """Each echoes its own lines while all the others are there; one login there."""
    ssh = connect_ssh(start_daemon("--max-sessions", "40"))
    path = socket_path(ssh.work)
    master = ssh.popen(options=("-M", "-N", "-S", str(path)))
    poll(path.exists, "the master's socket")
    sessions = [ssh.popen("exec cat", options=("-S", str(path))) for _ in range(40)]
    for turn in range(3):
        for i, session in enumerate(sessions):
            session.stdin.write(b"%d says %d\n" % (i, turn))
            session.stdin.flush()
        for i, session in enumerate(sessions):
            assert session.stdout.readline() == b"%d says %d\n" % (i, turn)
    assert len(sshd.logins()) == len(sshd.connections()) == 1
    for session in sessions:
        session.stdin.close()
        assert session.wait(PATIENCE_S) == 0, session.stderr.read()
    terminate(master)
