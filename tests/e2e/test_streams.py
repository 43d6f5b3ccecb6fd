"""Streams that end badly: the channel closes, the client sees a failure, and nothing else suffers."""

from __future__ import annotations

import subprocess

import grpc
import pytest

from harness import wire
from harness.answers import cat, open_house, say, wait_close
from harness.clients import OpenSsh
from harness.contract import pb
from harness.daemon import Daemon
from harness.policy import Policy, Status
from harness.rawclient import RawClient
from harness.stream import ChannelStream
from harness.wait import PATIENCE_S, poll
from harness.wire import Reader, string

UNKNOWN_FIELD = bytes([0xF8, 0x7F, 0x01])  # field 2047, varint 1


def expect_close_without_status(client: RawClient) -> None:
    """EOF and CLOSE, perhaps text on stderr, but no exit-status and no exit-signal."""
    while True:
        message = client.expect(94, 95, 96, 97, 98)
        assert message.type != 98, f"a request: {message!r}"
        if message.type == 97:
            return


async def ends_at_once(channel: ChannelStream) -> None:
    await channel.write(b"some")


async def fails_later(channel: ChannelStream) -> None:
    await channel.write(b"some")
    raise Status(grpc.StatusCode.INTERNAL, "out of cheese")


@pytest.mark.parametrize("program", [ends_at_once, fails_later])
def test_end_without_exit_is_no_success(policy: Policy, ssh: OpenSsh, program: object) -> None:
    open_house(policy, program)
    result = ssh.run("x")
    assert result.status == 255 and result.out == b"some", result


@pytest.mark.parametrize("program", [ends_at_once, fails_later])
def test_end_without_exit_sends_no_status(policy: Policy, daemon: Daemon, raw, program: object) -> None:
    open_house(policy, program)
    client = raw().login()
    number = client.execute()
    expect_close_without_status(client)
    client.close_channel(number)
    assert not client.global_request("still-alive@example.com")
    daemon.wait_event("channel_closed")


@pytest.mark.parametrize(
    "action",
    [
        b"",  # no member of the oneof
        UNKNOWN_FIELD,
        pb.ChannelAction(data=pb.ChannelData(payload=b"x")).SerializeToString() + UNKNOWN_FIELD,
        b"\xff\xff\xff",  # no protobuf
        pb.ChannelAction(exit_signal=pb.ExitSignal(name="TE\0RM")).SerializeToString(),
        bytes([0x22, 0x04, 0x0A, 0x02, 0xFF, 0xFE]),  # exit_signal.name is not UTF-8
    ],
    ids=["empty", "unknown", "unknown-beside-data", "garbage", "nul", "not-utf8"],
)
def test_malformed_action_ends_the_channel(policy: Policy, raw, action: bytes) -> None:
    async def program(channel: ChannelStream) -> None:
        await channel.send(action)
        await channel.drain()

    open_house(policy, program)
    client = raw().login()
    number = client.execute()
    expect_close_without_status(client)
    client.close_channel(number)
    policy.wait_stream().wait(lambda stream: stream.ended, "the stream's end")
    assert not client.global_request("still-alive@example.com")


def test_channel_handler_missing(policy: Policy, ssh: OpenSsh) -> None:
    """The policy said "stream" but has no Channel handler."""
    open_house(policy, None)
    result = ssh.run("x")
    assert result.status == 255 and result.out == b"", result


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code not in (grpc.StatusCode.OK, grpc.StatusCode.UNIMPLEMENTED)])
def test_channel_refused_with_any_status(policy: Policy, raw, code: grpc.StatusCode) -> None:
    open_house(policy)
    policy.on.Channel = Status(code, "no")
    client = raw().login()
    client.execute()
    expect_close_without_status(client)


def test_stream_that_nobody_serves_ends_at_its_deadline(policy: Policy, start_daemon, connect_ssh) -> None:
    open_house(policy, wait_close)
    policy.accept_streams = False
    daemon = start_daemon("--policy-stream-start", "1s")
    result = connect_ssh(daemon).run("x")
    assert result.status == 255, result
    policy.accept_streams = True
    policy.on.Channel = say(b"fine")
    assert connect_ssh(daemon).run("x").out == b"fine"


def test_policy_dies_in_the_middle_of_a_session(policy: Policy, ssh: OpenSsh) -> None:
    open_house(policy, cat)
    process = ssh.popen("x")
    process.stdin.write(b"before")
    process.stdin.flush()
    assert process.stdout.read(6) == b"before"
    policy.stop()
    assert process.wait(PATIENCE_S) == 255, process.stderr.read()


def test_the_connection_outlives_the_policy(policy: Policy, raw) -> None:
    """Its streams end, but a session opened after the policy's return works, on the same login."""
    open_house(policy, cat)
    client = raw().login()
    number = client.execute()
    policy.wait_stream()
    policy.stop()
    expect_close_without_status(client)
    client.close_channel(number)
    client.send(client.open_message(channel=1))
    failure = client.expect(92)
    assert failure.u32() == 1
    policy.start()

    def opened() -> Reader | None:
        client.send(client.open_message(channel=2))
        answer = client.expect(91, 92)
        return answer if answer.type == 91 else None

    answer = poll(opened, "a session although the policy is back", every=0.2)
    answer.u32()
    number = answer.u32()
    assert client.request(number, "exec", string("x"))
    client.data(number, b"after")
    assert client.expect(94).message[9:] == b"after"
    assert len(policy.requests("BeginAuth")) == 1


def test_nothing_after_the_exit_status(policy: Policy, raw) -> None:
    """A second exit is not passed on."""

    async def program(channel: ChannelStream) -> None:
        await channel.exit(1)
        await channel.exit(0)
        await channel.exit_signal("TERM")

    open_house(policy, program)
    client = raw().login()
    client.execute()
    request = client.expect(98)
    assert (request.u32(), request.string(), request.u8(), request.u32()) == (0, b"exit-status", 0, 1)
    expect_close_without_status(client)


@pytest.mark.parametrize("status", [256, 65536 + 3, 2**32 - 1])
def test_exit_status_passes_as_the_uint32_it_is(policy: Policy, raw, status: int) -> None:
    open_house(policy, say(b"", status=status))
    client = raw().login()
    client.execute()
    request = client.expect(98)
    assert (request.u32(), request.string(), request.u8(), request.u32()) == (0, b"exit-status", 0, status)


def test_extended_data_of_other_types_passes(policy: Policy, raw) -> None:
    async def program(channel: ChannelStream) -> None:
        await channel.write(b"seven", 7)
        await channel.exit(0)

    open_house(policy, program)
    client = raw().login()
    client.execute()
    message = client.expect(95)
    assert (message.u32(), message.u32(), message.string()) == (0, 7, b"seven")


def test_close_of_the_client_is_told(policy: Policy, raw) -> None:
    open_house(policy, wait_close)
    client = raw().login()
    number = client.execute()
    record = policy.wait_stream()
    client.close_channel(number)
    assert record.wait_closed().error == ""
    assert client.expect(97).u32() == 0
    record.wait(lambda stream: stream.ended, "the stream's end")
    assert record.kinds()[-1] == "closed"


@pytest.mark.parametrize("cut", [True, False])
def test_end_of_the_connection_is_told(policy: Policy, raw, cut: bool) -> None:
    open_house(policy, wait_close)
    client = raw().login()
    client.execute()
    record = policy.wait_stream()
    client.close() if cut else client.disconnect()
    closed = record.wait_closed()
    assert closed.error or not cut
    policy.wait_for("ConnectionLost")


def test_the_more_channels_the_smaller_their_messages(policy: Policy, start_daemon, raw) -> None:
    """Each is told its largest message; all may use it, and who exceeds it loses that channel and no other."""

    async def program(channel: ChannelStream) -> None:
        sizes = {b"all": channel.opened.max_payload_bytes, b"too much": 2 * channel.opened.max_payload_bytes}
        while data := await channel.read_data():
            payload = b"x" * sizes[data] if data in sizes else data
            await channel.send(pb.ChannelAction(data=pb.ChannelData(payload=payload)))

    open_house(policy, program)
    client = raw(port=start_daemon("--max-sessions", "60").port).login()
    numbers = [client.execute(channel=n) for n in range(60)]
    policy.board.wait(lambda: len(policy.streams) == 60 and all(s.opened for s in policy.streams), "60 streams")
    largest = [stream.opened.max_payload_bytes for stream in sorted(policy.streams, key=lambda s: s.opened.channel)]
    assert largest == [1 << 20] * 6 + [1 << 16] * 34 + [1 << 12] * 20
    for number in numbers:
        client.data(number, b"all")
    got = [0] * 60
    while got != largest:
        message = client.expect(wire.CHANNEL_DATA)
        got[message.u32()] += len(message.string())
    for number in (numbers[0], numbers[-1]):
        client.data(number, b"too much")
    closed = set()
    while len(closed) < 2:
        message = client.expect(wire.CHANNEL_DATA, wire.EXTENDED_DATA, wire.CHANNEL_EOF, wire.CHANNEL_CLOSE)
        if message.type == wire.CHANNEL_CLOSE:
            closed.add(message.u32())
    assert closed == {0, 59}
    for number in (numbers[0], numbers[-1]):
        client.close_channel(number)
    for channel in range(1, 59):
        client.data(numbers[channel], b"still here")
        message = client.expect(wire.CHANNEL_DATA)
        assert (message.u32(), message.string()) == (channel, b"still here")


def test_many_short_sessions_leave_no_stream(policy: Policy, ssh: OpenSsh) -> None:
    open_house(policy, say(b"x"))
    clients: list[subprocess.Popen] = [ssh.popen("x") for _ in range(8)]
    for client in clients:
        out, err = client.communicate(timeout=PATIENCE_S)
        assert (client.returncode, out) == (0, b"x"), err
    policy.board.wait(lambda: len(policy.streams) == 8 and all(s.ended for s in policy.streams), "the ends of all streams")
