"""Sessions: what the handler sees, what the daemon gets, and how they end."""

import asyncio
import contextlib

import grpc
import pytest

import parley
from client import CONTEXT, Stream, run

channel_pb2, common_pb2 = parley.channel_pb2, parley.common_pb2


class Scripted(parley.Policy):
    """Runs the given coroutine function as its session, and keeps how that went."""

    def __init__(self, script):
        self.script = script
        self.done = asyncio.Event()
        self.error = None

    async def session(self, s):
        self.s = s
        try:
            return await self.script(s)
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.done.set()


def play(script, scenario, **start):
    """Open one session, run `script(s)` on the policy's side and `scenario(stream)` on the daemon's."""

    async def both(daemon):
        policy.done = asyncio.Event()  # of this loop, on every Python
        stream = await daemon.open(**start)
        result = await scenario(stream)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(policy.done.wait(), 5)
        return result

    policy = Scripted(script)
    return run(policy, both), policy


async def everything(stream):
    return (*await stream.rest(), await stream.code())


def test_what_was_asked_for():
    async def script(s):
        assert s.user == "alice" and s.command == b"ls -l" and not s.shell and s.subsystem is None
        assert s.kind == "session" and s.ctx.channel == 7
        assert s.environment == {"LANG": "C", "BAD": "\udcff"}
        assert s.pty.term == "xterm" and (s.size.columns, s.size.rows) == (80, 24)

    variables = [
        common_pb2.EnvVar(name=b"LANG", value=b"C"),
        common_pb2.EnvVar(name=b"BAD", value=b"\xff"),
    ]
    size = channel_pb2.WindowSize(columns=80, rows=24)
    (_, _, others, code), policy = play(
        script,
        everything,
        exec=channel_pb2.ExecProgram(command=b"ls -l"),
        environment=variables,
        pty=channel_pb2.Pty(term="xterm", size=size),
    )
    assert policy.error is None
    assert others[-1].exit_status.status == 0 and code == grpc.StatusCode.OK


def test_shell_and_subsystem():
    async def shell(s):
        assert s.shell and s.command is None and s.pty is None and s.size is None

    async def subsystem(s):
        assert s.subsystem == b"sftp" and not s.shell

    assert play(shell, everything)[1].error is None
    start = channel_pb2.SubsystemProgram(name=b"sftp")
    assert play(subsystem, everything, subsystem=start)[1].error is None


def test_output_and_exit_status():
    async def script(s):
        await s.write(b"out")
        await s.write("put é")
        await s.write_stderr(bytearray(b"err"))
        await s.write_eof()
        s.exit(3)

    (out, err, others, code), _ = play(script, everything)
    assert (out, err) == ("output é".encode(), b"err")
    assert [action.WhichOneof("action") for action in others] == ["eof", "exit_status"]
    assert others[-1].exit_status.status == 3 and code == grpc.StatusCode.OK


def test_returning_a_number_is_the_exit_status():
    async def script(s):
        return 42

    (_, _, others, _), _ = play(script, everything)
    assert others[-1].exit_status.status == 42


def test_exit_signal():
    async def script(s):
        s.exit_signal("TERM", core_dumped=True, message="killed")

    (_, _, others, _), _ = play(script, everything)
    ended = others[-1].exit_signal
    assert (ended.name, ended.core_dumped, ended.message) == ("TERM", True, "killed")


@pytest.mark.parametrize("status", [-1, 2**32])
def test_an_exit_status_is_32_bits(status):
    async def script(s):
        s.exit(status)

    (_, _, others, code), _ = play(script, everything)
    assert others == [] and code == grpc.StatusCode.INTERNAL


def test_an_exception_ends_without_a_status(caplog):
    async def script(s):
        await s.write(b"half")
        raise RuntimeError("broken")

    (out, _, others, code), _ = play(script, everything)
    assert out == b"half" and others == [] and code == grpc.StatusCode.INTERNAL
    assert "broken" in caplog.text


def test_reading_until_the_end():
    async def script(s):
        got = [data async for data in s]
        assert await s.read() == b""
        await s.write(b"|".join(got))

    async def scenario(stream):
        for payload in (b"a", b"b", b"c"):
            await stream.data(payload)
        await stream.eof()
        return await everything(stream)

    (out, _, _, code), policy = play(script, scenario)
    assert out == b"a|b|c" and policy.error is None and code == grpc.StatusCode.OK


def test_a_client_that_leaves_wakes_the_reader():
    async def script(s):
        assert await s.read() == b"x"
        await s.read()

    async def scenario(stream):
        await stream.data(b"x")
        await stream.closed("connection lost")
        return await everything(stream)

    (_, _, others, _), policy = play(script, scenario)
    assert isinstance(policy.error, parley.ChannelClosed) and others == []
    assert "connection lost" in str(policy.error)


def test_what_was_sent_before_the_close_is_read():
    async def script(s):
        await asyncio.sleep(0.2)
        s.ctx.got = [data async for data in s]
        with pytest.raises(parley.ChannelClosed):
            await s.write(b"nobody")

    async def scenario(stream):
        await stream.data(b"x")
        await stream.closed()
        return await everything(stream)

    _, policy = play(script, scenario)
    assert policy.error is None and policy.s.ctx.got == [b"x"]


def test_a_broken_stream_cancels_a_handler_that_sleeps():
    async def script(s):
        await s.write(b"ready")
        await asyncio.sleep(60)

    async def scenario(stream):
        await stream.receive()
        stream.call.cancel()

    _, policy = play(script, scenario)
    assert isinstance(policy.error, asyncio.CancelledError)


def test_a_stream_that_just_ends_is_no_end_of_input():
    async def script(s):
        await s.read()

    async def scenario(stream):
        await stream.call.done_writing()
        return await everything(stream)

    _, policy = play(script, scenario)
    assert isinstance(policy.error, parley.ChannelClosed)


def test_events_come_in_order():
    async def script(s):
        s.ctx.got = []
        async for event in s.events():
            s.ctx.got.append(event)
            if isinstance(event, parley.Signal) and event.name == "TERM":
                return 0

    async def scenario(stream):
        await stream.data(b"a")
        await stream.send(window_change=channel_pb2.WindowSize(columns=100, rows=30))
        await stream.send(signal=channel_pb2.Signal(name="INT"))
        await stream.data(b"b")
        await stream.eof()
        await stream.send(signal=channel_pb2.Signal(name="TERM"))
        return await everything(stream)

    _, policy = play(script, scenario)
    assert policy.error is None
    assert policy.s.ctx.got == [
        parley.Data(b"a"),
        parley.WindowChange(100, 30),
        parley.Signal("INT"),
        parley.Data(b"b"),
        parley.Eof(),
        parley.Signal("TERM"),
    ]


def test_callbacks_come_at_once():
    async def script(s):
        seen, stop = [], asyncio.Event()
        s.on_window_change = lambda size: seen.append(size.columns)
        s.on_signal = lambda signal: (seen.append(signal.name), stop.set())
        await s.write(b"ready")
        await stop.wait()  # not reading
        assert seen == [90, "INT"] and s.size.columns == 90

    async def scenario(stream):
        await stream.receive()
        await stream.send(window_change=channel_pb2.WindowSize(columns=90, rows=1))
        await stream.send(signal=channel_pb2.Signal(name="INT"))
        return await everything(stream)

    assert play(script, scenario)[1].error is None


def test_a_failing_callback_is_logged(caplog):
    async def script(s):
        s.on_signal = lambda signal: 1 / 0
        await s.write(b"ready")
        assert await s.read() == b"more"

    async def scenario(stream):
        await stream.receive()
        await stream.send(signal=channel_pb2.Signal(name="INT"))
        await stream.data(b"more")
        return await everything(stream)

    assert play(script, scenario)[1].error is None
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    "answer, handled", [(None, False), (True, True), (False, False), (1, False)]
)
def test_breaks_are_answered(answer, handled):
    async def script(s):
        if answer is not None:
            s.on_break = lambda event: answer if event.length_ms == 500 else None
        await s.write(b"ready")
        await s.read()

    async def scenario(stream):
        await stream.receive()
        await stream.send(break_request=channel_pb2.Break(id=9, length_ms=500, want_reply=True))
        action = await stream.receive()
        await stream.eof()
        await stream.rest()
        return action.break_answer

    reply, policy = play(script, scenario)
    assert (reply.id, reply.handled) == (9, handled) and policy.error is None


def test_flow_control_of_the_terminal():
    async def script(s):
        await s.set_xon_xoff(True)

    (_, _, others, _), _ = play(script, everything)
    assert others[0].client_flow_control.can_do


def test_large_writes_arrive_whole_and_in_pieces():
    payload = bytes(range(256)) * 4096  # 1 MiB

    async def script(s):
        await s.write(memoryview(payload))

    async def scenario(stream):
        out = b""
        while True:
            action = await stream.receive()
            if action is None or action.WhichOneof("action") == "exit_status":
                return out
            assert len(action.data.payload) <= 64 * 1024
            out += action.data.payload

    assert play(script, scenario)[0] == payload


def test_writes_are_cut_as_the_daemon_wants_it():
    """A stream of a connection with many channels takes small messages only."""

    async def script(s):
        await s.write(b"x" * 10_000)

    async def scenario(stream):
        sizes = []
        while (action := await stream.receive()) is not None and action.WhichOneof("action") == "data":
            sizes.append(len(action.data.payload))
        return sizes

    assert play(script, scenario, max_payload_bytes=4096)[0] == [4096, 4096, 1808]


def test_writers_do_not_collide():
    async def script(s):
        await asyncio.gather(*(s.write(bytes([n]) * 100_000) for n in range(8)))

    (out, _, _, code), policy = play(script, everything)
    assert len(out) == 800_000 and policy.error is None and code == grpc.StatusCode.OK


def test_a_client_that_does_not_read_stops_the_writer():
    async def script(s):
        s.ctx.written = 0
        while True:
            await s.write(bytes(32 * 1024))
            s.ctx.written += 32 * 1024

    async def scenario(stream):
        await asyncio.sleep(1)
        before = policy_of(stream).s.ctx.written
        await asyncio.sleep(0.5)
        after = policy_of(stream).s.ctx.written
        stream.call.cancel()
        return before, after

    policy = Scripted(script)

    def policy_of(_stream):
        return policy

    async def both(daemon):
        return await scenario(await daemon.open())

    before, after = run(policy, both)
    assert before == after < 16 * 1024 * 1024


def test_a_handler_that_does_not_read_stops_the_client():
    async def script(s):
        await s.write(b"ready")
        await asyncio.sleep(60)

    async def scenario(stream):
        await stream.receive()
        sent = 0
        with contextlib.suppress(asyncio.TimeoutError):
            while sent < 64 * 1024 * 1024:
                await asyncio.wait_for(stream.data(bytes(32 * 1024)), 1)
                sent += 32 * 1024
        stream.call.cancel()
        return sent

    sent, policy = play(script, scenario)
    assert sent < 16 * 1024 * 1024
    assert policy.s._ahead_bytes <= 512 * 1024


def test_many_sessions_at_once():
    async def script(s):
        async for data in s:
            await s.write(data[::-1])
        return 1

    async def one(daemon, number):
        stream = await daemon.open()
        await stream.data(b"%d" % number)
        await stream.eof()
        return await everything(stream)

    async def scenario(daemon):
        return await asyncio.gather(*(one(daemon, number) for number in range(50)))

    for number, (out, _, others, _) in enumerate(run(Scripted(script), scenario)):
        assert out == (b"%d" % number)[::-1]
        assert others[-1].exit_status.status == 1


# ---- other channels


def opened(**kind):
    return channel_pb2.ChannelEvent(
        opened=channel_pb2.ChannelOpened(context=CONTEXT, channel=1, **kind)
    )


def test_other_channels_have_their_own_handler():
    class Web(parley.Policy):
        async def channel(self, c):
            assert c.kind == "direct_tcpip" and c.details.dest_port == 80 and c.user == "alice"
            await c.write(b"<" + await c.read() + b">")

    async def scenario(daemon):
        stream = Stream(daemon.raw("Channel"))
        asked = channel_pb2.ConnectionRequestedRequest(dest_host="web", dest_port=80)
        await stream.call.write(opened(direct_tcpip=asked))
        await stream.data(b"GET")
        return await everything(stream)

    out, _, others, code = run(Web(), scenario)
    assert out == b"<GET>" and others == [] and code == grpc.StatusCode.OK


def test_a_channel_that_nobody_handles():
    async def scenario(daemon):
        stream = Stream(daemon.raw("Channel"))
        await stream.call.write(opened(tun=channel_pb2.TunTapRequestedRequest()))
        return await stream.code()

    assert run(Scripted(None), scenario) == grpc.StatusCode.UNIMPLEMENTED


def test_the_first_event_must_be_opened():
    async def scenario(daemon):
        stream = Stream(daemon.raw("Channel"))
        await stream.data(b"x")
        return await stream.code()

    assert run(Scripted(None), scenario) == grpc.StatusCode.INVALID_ARGUMENT


def test_a_kind_that_we_do_not_know():
    async def scenario(daemon):
        stream = Stream(daemon.raw("Channel"))
        await stream.call.write(opened())
        return await stream.code()

    assert run(Scripted(None), scenario) == grpc.StatusCode.UNIMPLEMENTED


def test_the_stream_is_taken_before_the_handler_does_anything():
    """The daemon gives a policy a few seconds for its initial metadata, whatever the handler waits for."""

    async def script(s):
        await asyncio.sleep(60)

    async def scenario(stream):
        await asyncio.wait_for(stream.call.initial_metadata(), 5)
        stream.call.cancel()

    play(script, scenario)
