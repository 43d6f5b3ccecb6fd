"""A session from the OpenSSH client: its program is chosen by the policy, its bytes stream to the policy."""

from __future__ import annotations

import subprocess

import pytest

from harness.answers import accept, cat, open_house, refuse, say, serve, stream, wait_close
from harness.clients import OpenSsh, socket_path, terminate
from harness.contract import pb
from harness.daemon import Daemon
from harness.policy import Policy
from harness.stream import ChannelStream
from harness.wait import poll


def test_exec_runs_and_ends(policy: Policy, ssh: OpenSsh) -> None:
    open_house(policy, say(b"hello\n", status=0))
    result = ssh.run("greet 'the world'")
    assert (result.status, result.out, result.err) == (0, b"hello\n", ""), result
    asked = policy.wait_for("ExecRequested")
    assert asked.command == b"greet 'the world'"
    assert not asked.HasField("original_command")
    session = policy.wait_stream().session
    assert session.exec.command == b"greet 'the world'"
    assert not session.HasField("pty")


def test_commands_arrive_byte_for_byte(policy: Policy, raw) -> None:
    """No trimming, no encoding, no end at a NUL: what the policy decides on is what the client sent."""
    open_house(policy, say(b""))
    command = b" \xff\xfe a\0b\n\t'\"$(x) \xc3\xa9 "
    raw().login().execute(command)
    assert policy.wait_for("ExecRequested").command == command
    assert policy.wait_stream().session.exec.command == command


def test_stderr_stays_apart(policy: Policy, ssh: OpenSsh) -> None:
    open_house(policy, say(b"to stdout\n", b"to stderr\n", 3))
    result = ssh.run("x")
    assert (result.status, result.out, result.err) == (3, b"to stdout\n", "to stderr\n")


@pytest.mark.parametrize("status", [0, 1, 2, 127, 128, 254, 255])
def test_exit_status(policy: Policy, ssh: OpenSsh, status: int) -> None:
    open_house(policy, say(b"", status=status))
    assert ssh.run("x").status == status


def test_every_exit_status_from_0_to_255(policy: Policy, raw) -> None:
    """On one connection, one channel after the other."""
    client = None

    async def program(channel: ChannelStream) -> None:
        await channel.exit(int(channel.session.exec.command))

    open_house(policy, program)
    client = raw().login()
    for status in range(256):
        number = client.execute(str(status))
        request = client.expect(98)
        assert (request.u32(), request.string(), request.boolean(), request.u32()) == (0, b"exit-status", False, status)
        assert client.expect(96).u32() == 0
        assert client.expect(97).u32() == 0
        client.close_channel(number)


@pytest.mark.parametrize("name,core", [("TERM", False), ("SEGV", True)])
def test_exit_signal(policy: Policy, ssh: OpenSsh, raw, name: str, core: bool) -> None:
    async def program(channel: ChannelStream) -> None:
        await channel.exit_signal(name, "it was killed", core)

    open_house(policy, program)
    result = ssh.run("x")
    assert result.status == 255, result  # OpenSSH has no number for it, but says so when asked
    client = raw().login()
    client.execute()
    request = client.expect(98)
    fields = (request.u32(), request.string(), request.boolean(), request.string(), request.boolean(), request.string())
    assert fields == (0, b"exit-signal", False, name.encode(), core, b"it was killed")


def test_shell_without_pty(policy: Policy, ssh: OpenSsh) -> None:
    async def shell(channel: ChannelStream) -> None:
        got = b""
        while data := await channel.read_data():
            got += data
        await channel.write(b"you typed " + got)
        await channel.exit(0)

    open_house(policy, shell)
    result = ssh.run(None, stdin=b"first\nsecond\n")
    assert (result.status, result.out) == (0, b"you typed first\nsecond\n"), result
    assert policy.requests("ShellRequested") and not policy.requests("PtyRequested")
    session = policy.wait_stream().session
    assert session.WhichOneof("program") == "shell" and not session.HasField("pty")


def test_subsystem(policy: Policy, ssh: OpenSsh) -> None:
    open_house(policy, cat)
    result = ssh.run("netconf", options=("-s",), stdin=b"<hello/>")
    assert (result.status, result.out) == (0, b"<hello/>"), result
    assert policy.wait_for("SubsystemRequested").name == b"netconf"
    assert policy.wait_stream().session.subsystem.name == b"netconf"


def test_three_sessions_on_one_connection(policy: Policy, ssh: OpenSsh) -> None:
    """ControlMaster: three at once, each its own stream, one login."""
    open_house(policy, cat)
    path = socket_path(ssh.work)
    master = ssh.popen(options=("-M", "-N", "-S", str(path)))
    poll(path.exists, "the master's socket")
    sessions = [ssh.popen(f"cat {i}", options=("-S", str(path))) for i in range(3)]
    for i, session in enumerate(sessions):
        assert session.stdin and session.stdout
        session.stdin.write(b"line of %d\n" % i)
        session.stdin.flush()
    for i, session in enumerate(sessions):  # all three are open at the same time
        assert session.stdout.readline() == b"line of %d\n" % i
    assert len(policy.streams) == 3
    for session in sessions:
        out, err = session.communicate(timeout=60)
        assert (session.returncode, out) == (0, b""), err
    assert len(policy.requests("BeginAuth")) == 1
    opened = [record.opened for record in policy.streams]
    assert len({one.channel for one in opened}) == 3
    assert len({one.context.connection_id for one in opened}) == 1
    terminate(master)


def test_sessions_one_after_the_other(policy: Policy, raw) -> None:
    """A closed channel leaves nothing behind: more than the limit of open ones fit in a row."""
    open_house(policy, say(b"x"))
    client = raw().login()
    for _ in range(30):
        number = client.execute()
        assert client.expect(94).u32() == 0
        client.until(97)
        client.close_channel(number)


def test_the_eleventh_session_is_refused(policy: Policy, raw) -> None:
    open_house(policy, wait_close)
    client = raw().login()
    for channel in range(10):
        client.execute(channel=channel)
    client.send(client.open_message(channel=10))
    failure = client.expect(92)
    assert (failure.u32(), failure.u32()) == (10, 4)
    client.close_channel(0)
    client.until(97)
    client.open(channel=11)


def test_session_refused_with_the_policys_words(policy: Policy, ssh: OpenSsh, raw) -> None:
    open_house(policy)
    policy.on.SessionRequested = refuse("closed on Sundays", 4)
    result = ssh.run("x")
    assert result.status == 255 and "closed on Sundays" in result.err, result
    client = raw().login()
    client.send(client.open_message(channel=7))
    failure = client.expect(92)
    assert (failure.u32(), failure.u32(), failure.string(), failure.string()) == (7, 4, b"closed on Sundays", b"")


def test_refuse_without_a_code_is_prohibited(policy: Policy, raw) -> None:
    open_house(policy)
    policy.on.SessionRequested = refuse()
    client = raw().login()
    client.send(client.open_message())
    failure = client.expect(92)
    assert (failure.u32(), failure.u32()) == (0, 1)


@pytest.mark.parametrize("handler", ["ExecRequested", "ShellRequested", "SubsystemRequested"])
def test_program_refused(policy: Policy, ssh: OpenSsh, handler: str) -> None:
    """The session stays open for another try, but nothing runs."""
    open_house(policy, say(b"never\n"))
    policy.on.SessionRequested = accept()
    setattr(policy.on, handler, refuse("not for you"))
    how = {"ExecRequested": ("x", ()), "ShellRequested": (None, ()), "SubsystemRequested": ("x", ("-s",))}[handler]
    result = ssh.run(how[0], options=how[1])
    assert result.status == 255 and result.out == b"", result
    assert not policy.streams


def test_accept_without_a_program_refuses(policy: Policy, raw) -> None:
    """SessionRequested said only "accept": the default of ExecRequested has no endpoint to start on."""
    open_house(policy, say(b"never"))
    policy.on.SessionRequested = accept()
    client = raw().login()
    number = client.open()
    assert not client.request(number, "exec", b"\0\0\0\1x")
    assert not policy.streams


def test_the_program_answer_wins_over_the_sessions(policy: Policy, raw) -> None:
    open_house(policy, say(b"never"))
    policy.on.SessionRequested = stream()
    policy.on.ExecRequested = refuse()
    client = raw().login()
    number = client.open()
    assert not client.request(number, "exec", b"\0\0\0\1x")
    policy.on.ExecRequested = stream()
    assert client.request(number, "exec", b"\0\0\0\1x")
    policy.wait_stream()


def test_only_one_program_per_session(policy: Policy, raw) -> None:
    open_house(policy, wait_close)
    client = raw().login()
    number = client.execute()
    policy.wait_stream()
    assert not client.request(number, "exec", b"\0\0\0\1y")
    assert not client.request(number, "shell")
    assert len(policy.streams) == 1


@pytest.mark.parametrize("endpoint", ["process", "upstream"])
def test_endpoints_that_cannot_be_had_refuse(policy: Policy, raw, endpoint: str) -> None:
    """What cannot be enforced refuses instead of being ignored."""
    open_house(policy, say(b"never"))
    policy.on.SessionRequested = accept()
    answers = {
        "process": pb.SessionAnswer(process=pb.ProcessEndpoint(argv=[b"/bin/sh", b"-c", b"id"])),
        "upstream": pb.SessionAnswer(upstream=pb.UpstreamEndpoint(hops=[pb.UpstreamHop(host="127.0.0.1", password="x")])),
    }
    policy.on.ExecRequested = answers[endpoint]
    client = raw().login()
    number = client.open()
    assert not client.request(number, "exec", b"\0\0\0\1x")


def test_a_required_recording_that_cannot_be_made_refuses(policy: Policy, raw) -> None:
    open_house(policy, say(b"never"))
    policy.on.ExecRequested = pb.SessionAnswer(
        stream=pb.StreamEndpoint(), recording=pb.RecordingOrder(file=pb.FileSink(name="x"), required=True)
    )
    client = raw().login()
    number = client.open()
    assert not client.request(number, "exec", b"\0\0\0\1x")
    assert not policy.streams


def test_unknown_stream_target_refuses(policy: Policy, raw) -> None:
    """Never to an address from an answer: targets are names in the daemon's configuration."""
    open_house(policy)
    policy.on.SessionRequested = stream("127.0.0.1:1")
    client = raw().login()
    client.send(client.open_message())
    if (message := client.expect(91, 92)).type == 91:
        message.u32()
        assert not client.request(message.u32(), "exec", b"\0\0\0\1x")


def test_a_configured_stream_target_carries_the_session(policy: Policy, work, start_daemon, connect_ssh) -> None:
    open_house(policy)
    policy.on.SessionRequested = stream("shells")
    with Policy(f"unix:{work}/shells.sock") as shells:
        serve(shells, say(b"from the other one\n"))
        daemon: Daemon = start_daemon("--stream-target", f"shells=unix:{work}/shells.sock")
        result = connect_ssh(daemon).run("x")
        assert (result.status, result.out) == (0, b"from the other one\n"), result
        assert shells.names() == ["Channel"] and "Channel" not in policy.names()


def test_input_before_the_decision_waits_and_then_arrives(policy: Policy, raw) -> None:
    open_house(policy, cat)
    gate = policy.gate()

    async def later(_request: object, _context: object) -> object:
        await gate.passed()
        return stream()

    policy.on.ExecRequested = later
    client = raw().login()
    number = client.open()
    client.send(client.request_message(number, "exec", b"\0\0\0\1x"))
    client.data(number, b"early")
    client.eof(number)
    policy.wait_for("ExecRequested")
    assert not policy.streams
    gate.open()
    client.expect(99)
    assert client.expect(94).message[9:] == b"early"


def test_input_before_a_refusal_reaches_nobody(policy: Policy, raw) -> None:
    open_house(policy, cat)
    policy.on.SessionRequested = accept()
    client = raw().login()
    number = client.open()
    client.data(number, b"secret")
    assert not client.request(number, "exec", b"\0\0\0\1x")
    client.close_channel(number)
    client.expect(97)
    assert not policy.streams


def test_client_killed_ends_the_stream(policy: Policy, ssh: OpenSsh) -> None:
    open_house(policy, wait_close)
    process: subprocess.Popen = ssh.popen("x")
    record = policy.wait_stream()
    process.kill()
    record.wait_closed()
    record.wait(lambda stream: stream.ended, "the stream's end")
    policy.wait_for("ConnectionLost")
