"""The stream of a channel goes wrong: what came before it counts, and nothing after."""

from __future__ import annotations

import gzip
import random
import re
from dataclasses import dataclass
from typing import Awaitable, Callable

import pytest

from faultkit.faults import NO_STATUSES, REASON, STATUSES, Fault, chunk, number
from faultkit.handlers import HANDLERS
from faultkit.messages import NONE_SET
from faultkit.table import Table
from harness import wire
from harness.contract import pb
from harness.rawclient import RawClient
from harness.wire import string
from rawpolicy import Call


@dataclass(frozen=True)
class StreamFault:
    """What the policy sends after a good "hello", and what the log says of the channel's end."""

    name: str
    spoil: Callable[[Call], Awaitable[None]]
    reason: str


STREAM_FAULTS: list[StreamFault] = []


def on_stream(name: str, reason: str) -> Callable[[Callable[[Call], Awaitable[None]]], None]:
    return lambda spoil: STREAM_FAULTS.append(StreamFault(name, spoil, reason))


def action(name: str, build: Callable[[], bytes], reason: str) -> None:
    async def spoil(call: Call) -> None:
        await call.message(build())
        await call.gone.wait()

    STREAM_FAULTS.append(StreamFault(name, spoil, f"malformed message: .*({reason})|{reason}"))


def data_action(payload: bytes) -> bytes:
    return pb.ChannelAction(data=pb.ChannelData(payload=payload)).SerializeToString()


BAD = data_action(b"BAD")
EXIT = pb.ChannelAction(exit_status=pb.ExitStatus(status=0)).SerializeToString()

action("empty", lambda: b"", NONE_SET)
action("two-members", lambda: BAD + EXIT, "more than one of")
action("later-member", lambda: chunk(15, b"x"), "unknown field 15")
action("unknown-field", lambda: BAD + number(200, 1), "unknown field 200")
action("unknown-field-inside", lambda: chunk(1, chunk(1, b"BAD") + number(9, 1)), "unknown field 9")
action("duplicate", lambda: BAD + BAD, "comes twice")
action("duplicate-inside", lambda: chunk(1, chunk(1, b"BAD") + chunk(1, b"BAD")), "comes twice")
action("nul", lambda: chunk(4, chunk(1, b"TE\0RM")), "NUL")
action("not-utf8", lambda: chunk(4, chunk(3, b"\xff")), "not UTF-8")
action("truncated", lambda: BAD[:-1], "malformed")
action("noise", lambda: random.Random(7).randbytes(300), "malformed|unknown field|wire type")
action("number-out-of-range", lambda: chunk(3, number(1, 1 << 40)), "out of range")
action("wrong-wire-type", lambda: number(1, 1), "wrong wire type")
action("unknown-stderr", lambda: chunk(1, chunk(1, b"BAD") + number(2, 1 << 33)), "out of range")
action("oversize", lambda: data_action(b"BAD" + b"x" * (1050 << 10)), "at most|larger than max")
action("oversize-for-grpc", lambda: data_action(b"BAD" + b"x" * (1200 << 10)), "RESOURCE_EXHAUSTED")


@on_stream("end-without-exit", "the endpoint ended")
async def _(call: Call) -> None:
    call.trailers()


@on_stream("end-without-trailers", "UNKNOWN")
async def _(call: Call) -> None:
    await call.message(data_action(b""), end=True)


@on_stream("exit-then-error", "INTERNAL")
async def _(call: Call) -> None:
    call.trailers("13")


@on_stream("compressed", "malformed")
async def _(call: Call) -> None:
    await call.message(gzip.compress(BAD), 1)
    await call.gone.wait()


@on_stream("message-flag-255", "the endpoint ended|malformed")
async def _(call: Call) -> None:
    await call.message(BAD, 255)
    call.trailers()


@on_stream("message-shorter-than-it-says", "the endpoint ended|malformed")
async def _(call: Call) -> None:
    await call.message(BAD, length=len(BAD) + 10)
    call.trailers()


def _stream_reset(code: int) -> None:
    @on_stream(f"reset-{code}", "RST_STREAM")
    async def _(call: Call) -> None:
        call.reset(code)


def _stream_status(status: str, reason: str) -> None:
    @on_stream(f"status-{status!r}", reason)
    async def _(call: Call) -> None:
        call.trailers(status, ("grpc-message", "on purpose"))


for _code in (0, 2, 8, 0xFFFFFFFF):
    _stream_reset(_code)
for _number, _name in {**STATUSES, 4: "DEADLINE_EXCEEDED", 12: "UNIMPLEMENTED"}.items():
    _stream_status(str(_number), _name)
for _text in NO_STATUSES:
    _stream_status(_text, REASON)


def ran(client: RawClient) -> tuple[bytes, list[bytes]]:
    """All data of a program until the channel closes, and the names of the requests that came with it."""
    number = client.login().open()
    assert client.request(number, "exec", string("x"))
    data, requests = b"", []
    while (message := client.expect(wire.CHANNEL_DATA, wire.CHANNEL_EOF, wire.CHANNEL_CLOSE, wire.CHANNEL_REQUEST)).type != wire.CHANNEL_CLOSE:
        message.u32()
        if message.type == wire.CHANNEL_DATA:
            data += message.string()
        elif message.type == wire.CHANNEL_REQUEST:
            requests.append(message.string())
    client.close_channel(number)
    return data, requests


EXEC = next(handler for handler in HANDLERS if handler.name == "ExecRequested")


@pytest.mark.parametrize("fault", [pytest.param(fault, id=fault.name) for fault in STREAM_FAULTS])
def test_stream(table: Table, fault: StreamFault) -> None:
    """What was good is delivered, what is not is not; the client hears of no exit; the log says why; the connection lives."""

    async def spoil(call: Call) -> None:
        call.headers()
        await call.message(data_action(b"hello"))
        await fault.spoil(call)

    client = table.client(EXEC, Fault("stream"))
    table.streams[client.socket_name[0]] = spoil
    try:
        data, requests = ran(client)
        assert data == b"hello" and not requests, (data, requests)
        client.open(channel=1)
    finally:
        client.close()
    connection = table.connection(client)
    closed = table.log.wait(connection, "channel_closed")[0]
    assert re.search(fault.reason, closed.get("why", "")), closed


@pytest.mark.parametrize("status", ["0", "14"])
def test_stream_that_is_not_accepted(table: Table, status: str) -> None:
    """Refused at once, before any message."""

    async def spoil(call: Call) -> None:
        call.trailers_only(status)

    client = table.client(EXEC, Fault("stream"))
    table.streams[client.socket_name[0]] = spoil
    try:
        assert ran(client) == (b"", [])
    finally:
        client.close()


def test_stream_that_hangs(hasty: Table) -> None:
    """No initial metadata by the deadline for streams to start."""

    async def spoil(call: Call) -> None:
        await call.gone.wait()

    client = hasty.client(EXEC, Fault("stream"))
    hasty.streams[client.socket_name[0]] = spoil
    try:
        assert ran(client) == (b"", [])
    finally:
        client.close()
    closed = hasty.log.wait(hasty.connection(client), "channel_closed")[0]
    assert "no initial metadata" in closed["why"]
