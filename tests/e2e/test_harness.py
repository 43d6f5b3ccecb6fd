"""The scripted policy itself, and the servers to go on to: a test that trusts them should not be fooled by them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import asyncssh
import grpc
import pytest

from harness.answers import cat, me, not_required
from harness.clients import OpenSsh
from harness.contract import METHODS, SERVICE, output_class, pb
from harness.keys import Key, certify, make_key
from harness.policy import Policy, Status, hang
from harness.rawclient import NO_CHANNEL, RawClient
from harness.rawserver import RawServed, ServerKey
from harness.sshd import Sshd
from harness.wait import Board
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
    client.windows_given, client.ours = {}, {}

    def come(*messages: tuple[int, int]) -> None:
        client._held = [bytes([kind]) + u32(channel) + u32(1) for kind, channel in messages]

    come((94, 0), (93, 0), (96, 2), (91, 1), (94, 1))
    assert client.expect(91, channel=1).u32() == 1
    assert [message[0:5] for message in client._held] == [bytes([94]) + u32(0), bytes([96]) + u32(2), bytes([94]) + u32(1)]
    assert (client.windows_given, client.ours) == ({0: 1}, {1: 1})
    come((94, 0), (94, 1), (99, 1))
    with pytest.raises(AssertionError):
        client.expect(99, channel=1)
    assert [message[0] for message in client._held] == [94, 99]
    come((90, 0), (97, 0), (81, 0))
    assert client.expect(81, channel=NO_CHANNEL)
    assert [message[0] for message in client._held] == [90, 97]
    with pytest.raises(AssertionError):
        client.expect(97)


# ---- the servers, with the client that people have


def client_of(server: Any, work: Path, host_key: Key) -> OpenSsh:
    return OpenSsh(server.port, work, host_key)


def test_sshd(sshd: Sshd, work: Path, other_key: Key, user_key: Key) -> None:
    result = client_of(sshd, work, other_key).run("cat; exit 3", stdin=b"x", user=me(), key=user_key)
    assert (result.status, result.out) == (3, b"x"), result
    assert len(sshd.logins()) == 1
    sshd.wait_connections(0)


@pytest.mark.parametrize("certified", [False, True])
def test_the_raw_server(start_raw_server: Any, work: Path, other_key: Key, certified: bool) -> None:
    def script(served: RawServed) -> None:
        number = served.greet().login().session()
        served.exchange_keys()
        served.data(number, b"raw\n")
        served.finish(number, 7)
        served.drain()

    ca = make_key(work / "ca")
    key = certify(make_key(work / "host"), ca, principals="127.0.0.1", host=True) if certified else other_key
    server = start_raw_server(script, ServerKey(key, certified))
    ssh = client_of(server, work, other_key)
    if certified:
        ssh.known_hosts.write_text(f"@cert-authority * {ca.public}\n")
    result = ssh.run("x", password="any")
    assert (result.status, result.out) == (7, b"raw\n"), result
    server.wait_ends()


def test_the_servers_of_asyncssh(start_async_server: Any, work: Path, other_key: Key) -> None:
    class Server(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            return False

    async def program(process: asyncssh.SSHServerProcess) -> None:
        process.stdout.write(process.command.encode())
        process.exit(9)

    server = start_async_server(Server, [("127.0.0.1", other_key), ("127.0.0.2", other_key)], process_factory=program)
    result = client_of(server, work, other_key).run("words")
    assert (result.status, result.out) == (9, b"words"), result
    assert len(server.places) == 2


def test_a_wait_sees_what_looking_brought() -> None:
    """A fact that writes down what it finds, and finds the rest too late to count it: nobody else announces that."""
    board, seen = Board(), []

    def fact() -> bool:
        before = len(seen)
        with board:
            seen.append(1)
        return before == 3

    board.wait(fact, "three were seen", timeout=20)
    assert len(seen) == 4
