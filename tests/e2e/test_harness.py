"""The scripted policy itself: a test that trusts it should not be fooled by it."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from harness.answers import cat, not_required
from harness.contract import METHODS, SERVICE, output_class, pb
from harness.policy import Policy, Status, hang
from harness.rawclient import NO_CHANNEL, RawClient
from harness.wire import u32


def unary(channel: grpc.Channel, name: str, request: object, timeout: float = 20) -> object:
    call = channel.unary_unary(
        f"/{SERVICE.full_name}/{name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=output_class(name).FromString,
    )
    return call(request, timeout=timeout)


@pytest.fixture
def channel(policy: Policy, work: Path) -> grpc.Channel:
    with grpc.insecure_channel(f"unix:{work}/policy.sock", options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield channel


def test_unset_handlers_answer_unimplemented(policy: Policy, channel: grpc.Channel) -> None:
    for name, method in METHODS.items():
        if method.client_streaming or policy.on.get(name):
            continue
        with pytest.raises(grpc.RpcError) as failure:
            unary(channel, name, pb.BeginAuthRequest())
        assert failure.value.code() == grpc.StatusCode.UNIMPLEMENTED, name


def test_answers_statuses_and_records(policy: Policy, channel: grpc.Channel) -> None:
    policy.on.BeginAuth = not_required()
    answer = unary(channel, "BeginAuth", pb.BeginAuthRequest(context=pb.Context(user="alice")))
    assert answer.requirement == pb.REQUIREMENT_NOT_REQUIRED
    policy.on.BeginAuth = Status(grpc.StatusCode.DATA_LOSS, "why")
    with pytest.raises(grpc.RpcError) as failure:
        unary(channel, "BeginAuth", pb.BeginAuthRequest())
    assert failure.value.code() == grpc.StatusCode.DATA_LOSS
    policy.on.BeginAuth = hang
    with pytest.raises(grpc.RpcError) as failure:
        unary(channel, "BeginAuth", pb.BeginAuthRequest(), timeout=0.2)
    assert failure.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    policy.wait_end("BeginAuth", "cancelled")
    assert [request.context.user for request in policy.requests("BeginAuth")] == ["alice", "", ""]


def test_streams(policy: Policy, channel: grpc.Channel) -> None:
    policy.on.Channel = cat
    call = channel.stream_stream(
        f"/{SERVICE.full_name}/Channel",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=pb.ChannelAction.FromString,
    )
    events = [
        pb.ChannelEvent(opened=pb.ChannelOpened(channel=7)),
        pb.ChannelEvent(data=pb.ChannelData(payload=b"abc")),
        pb.ChannelEvent(eof=pb.ChannelEof()),
    ]
    actions = list(call(iter(events)))
    assert [action.WhichOneof("action") for action in actions] == ["data", "exit_status"]
    stream = policy.wait_stream()
    assert (stream.opened.channel, bytes(stream.input), stream.kinds()) == (7, b"abc", ["eof"])


def test_it_may_go_away_and_come_back(policy: Policy, channel: grpc.Channel) -> None:
    policy.on.BeginAuth = not_required()
    policy.stop()
    with pytest.raises(grpc.RpcError) as failure:
        unary(channel, "BeginAuth", pb.BeginAuthRequest())
    assert failure.value.code() == grpc.StatusCode.UNAVAILABLE
    policy.start()
    call = channel.unary_unary(f"/{SERVICE.full_name}/BeginAuth", lambda m: m.SerializeToString())
    assert call(pb.BeginAuthRequest(), wait_for_ready=True, timeout=30)


def test_expect_leaves_what_other_channels_say() -> None:
    """In the order in which it came, for whoever reads next; a channel's own messages stay strictly in line."""
    client = RawClient.__new__(RawClient)
    client.windows_given = {}

    def come(*messages: tuple[int, int]) -> None:
        client._held = [bytes([kind]) + u32(channel) + u32(1) for kind, channel in messages]

    come((94, 0), (93, 0), (96, 2), (91, 1), (94, 1))
    assert client.expect(91, channel=1).u32() == 1
    assert [message[0:5] for message in client._held] == [bytes([94]) + u32(0), bytes([96]) + u32(2), bytes([94]) + u32(1)]
    assert client.windows_given == {0: 1}
    come((94, 0), (94, 1), (99, 1))
    with pytest.raises(AssertionError):
        client.expect(99, channel=1)
    assert [message[0] for message in client._held] == [94, 99]
    come((90, 0), (97, 0), (81, 0))
    assert client.expect(81, channel=NO_CHANNEL)
    assert [message[0] for message in client._held] == [90, 97]
    with pytest.raises(AssertionError):
        client.expect(97)
