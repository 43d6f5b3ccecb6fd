"""What a client and its program tell each other beside the data: who reads no more, whose flow control it is, how large a window."""

from __future__ import annotations

import asyncio
import os
import pwd
import socket
from pathlib import Path
from typing import Any, Callable

import pytest

from harness.answers import accept, open_house, wait_close
from harness.contract import pb
from harness.daemon import Daemon
from harness.policy import Policy
from harness.rawclient import RawClient
from harness.stream import ChannelStream
from harness.wait import PATIENCE_S
from harness.wire import string, u32

Raw = Callable[..., RawClient]

ME = pwd.getpwuid(os.geteuid()).pw_name


def shell(script: str) -> Any:
    return pb.SessionAnswer(process=pb.ProcessEndpoint(argv=[b"/bin/sh", b"-c", script.encode()], user=ME, directory=b"/"))


async def pour(channel: ChannelStream) -> None:
    """Like yes(1), until it is told that nobody reads."""
    async def told() -> None:
        while (event := await channel.read()) is not None:
            if event.WhichOneof("event") == "signal" and event.signal.name == "PIPE":
                return

    waiting = asyncio.create_task(told())
    while not waiting.done():
        await channel.write(b"y\n" * 8192)
    await channel.exit(141)


@pytest.mark.parametrize("program", ["process", "stream"])
def test_output_that_nobody_reads_ends_its_writer(policy: Policy, start_daemon: Any, connect_ssh: Any, program: str) -> None:
    """`ssh host yes | head -1` comes back. OpenSSH says eow@openssh.com only to servers that are called like it."""
    ssh = connect_ssh(start_daemon("--version-comment", "OpenSSH_9.9_Parley"))
    open_house(policy, pour)
    if program == "process":
        policy.on.ExecRequested = shell("yes; exit $?")
    process = ssh.popen("yes")
    assert process.stdout and process.stdout.read(2) == b"y\n"
    process.stdout.close()
    assert process.wait(PATIENCE_S) == 128 + 13  # SIGPIPE


def test_unwanted_output_leaves_the_errors(policy: Policy, raw: Raw) -> None:
    open_house(policy)
    policy.on.ExecRequested = shell("yes; echo nobody reads >&2")
    client = raw().login()
    number = client.execute("x")
    client.until(94)
    client.send(client.request_message(number, "eow@openssh.com", reply=False))
    error = client.until(95)
    assert (error.u32(), error.u32(), error.string()) == (0, 1, b"nobody reads\n")
    status = client.until(98)
    assert (status.u32(), status.string(), status.boolean(), status.u32()) == (0, b"exit-status", False, 0)


def test_we_say_when_nobody_reads_the_input(policy: Policy, raw: Raw) -> None:
    """Sent to OpenSSH's clients only, which are known to understand it."""
    open_house(policy)
    policy.on.ExecRequested = shell("exec <&-; echo closed; exec tail -f /dev/null")
    client = raw(version=b"SSH-2.0-OpenSSH_9.2").login()
    number = client.execute("x")
    client.until(94)
    client.data(number, b"into the void")
    request = client.until(98)
    assert (request.u32(), request.string(), request.boolean()) == (0, b"eow@openssh.com", False)


@pytest.mark.parametrize("can_do", [True, False])
def test_flow_control(policy: Policy, raw: Raw, can_do: bool) -> None:
    async def program(channel: ChannelStream) -> None:
        await channel.send(pb.ChannelAction(client_flow_control=pb.ClientFlowControl(can_do=can_do)))
        await wait_close(channel)

    open_house(policy, program)
    client = raw().login()
    client.execute("x", channel=5)
    request = client.expect(98)
    assert (request.u32(), request.string(), request.boolean(), request.boolean()) == (5, b"xon-xoff", False, can_do)


@pytest.mark.parametrize("asked, given", [((1000, 100), (1000, 100)), ((0, 0), (1 << 21, 1 << 15)), ((1 << 31, 1 << 31), (1 << 21, 1 << 15))])
def test_channel_options(policy: Policy, raw: Raw, asked: tuple[int, int], given: tuple[int, int]) -> None:
    """They make a channel smaller than the configuration says, never larger."""
    open_house(policy, wait_close)
    policy.on.SessionRequested = pb.SessionAnswer(
        stream=pb.StreamEndpoint(), options=pb.ChannelOptions(window_bytes=asked[0], max_packet_bytes=asked[1])
    )
    client = raw().login()
    client.send(client.open_message())
    confirmation = client.expect(91)
    assert (confirmation.u32(), confirmation.u32()) == (0, 0)
    assert (confirmation.u32(), confirmation.u32()) == given


def test_options_that_are_kept_bound_the_client(policy: Policy, raw: Raw) -> None:
    open_house(policy, wait_close)
    policy.on.SessionRequested = pb.SessionAnswer(stream=pb.StreamEndpoint(), options=pb.ChannelOptions(window_bytes=10))
    client = raw().login()
    number = client.execute("x")
    client.data(number, b"x" * 11)
    assert "window" in client.expect_end().reason


def test_options_belong_to_the_session(policy: Policy, raw: Raw) -> None:
    """In the answer about a program they come too late: it is refused."""
    open_house(policy, wait_close)
    policy.on.SessionRequested = accept()
    policy.on.ExecRequested = pb.SessionAnswer(stream=pb.StreamEndpoint(), options=pb.ChannelOptions(window_bytes=10))
    client = raw().login()
    number = client.open()
    assert not client.request(number, "exec", string("x"))


def test_what_came_before_a_close_arrives(policy: Policy, daemon: Daemon, raw: Raw, work: Path) -> None:
    """A client that has said all sends its last bytes, EOF and CLOSE at once; the one it speaks to may be slow."""
    open_house(policy)
    path = str(work / "slow.sock")
    policy.on.UnixConnectionRequested = pb.OpenAnswer(forward=pb.ForwardEndpoint())
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        client = raw().login()
        number = client.open("direct-streamlocal@openssh.com", rest=string(path) + string("") + u32(0))
        said = os.urandom(2 << 20)
        for at in range(0, len(said), 1 << 15):
            client.data(number, said[at : at + (1 << 15)])
        client.eof(number)
        client.close_channel(number)
        other = client.open(channel=1)  # nothing waits for the slow one
        assert other != number and not daemon.events("channel_closed")
        slow, _ = listener.accept()
        with slow, slow.makefile("rb") as reader:
            assert reader.read() == said
    while client.until(97).u32() != 0:
        pass
    assert daemon.wait_event("channel_closed")["bytes_in"] == str(2 << 20)


def test_unknown_requests_fail(policy: Policy, raw: Raw) -> None:
    open_house(policy)
    client = raw().login()
    number = client.open()
    assert not client.request(number, "nonsense@example.com", b"anything")
    assert not client.global_request("nonsense@example.com", b"anything")
    assert not client.global_request("keepalive@openssh.com")
