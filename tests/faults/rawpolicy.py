"""A policy that speaks HTTP/2 frame by frame: what no gRPC library would send (a cut message, two statuses, a flag that means
nothing) is sent as easily as an answer. It knows frames, header blocks and windows, and leaves all good manners to the test."""

from __future__ import annotations

import asyncio
import struct
import threading
from dataclasses import dataclass, field
from typing import Any, Awaitable, Callable

import hpack

from harness.contract import METHODS, SERVICE, input_class
from harness.wait import PATIENCE_S, Board

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, HAS_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
INITIAL_WINDOW_SIZE = 4

Headers = list[tuple[str | bytes, str | bytes]]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"", length: int | None = None) -> bytes:
    """One frame; its length field can be made to lie."""
    return struct.pack(">I", len(payload) if length is None else length)[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def goaway(last_stream: int, code: int, debug: bytes = b"") -> bytes:
    return frame(GOAWAY, 0, 0, struct.pack(">II", last_stream, code) + debug)


def _literal(text: str | bytes) -> bytes:
    """RFC 7541 section 5.2, without Huffman coding."""
    data = text.encode() if isinstance(text, str) else text
    if len(data) < 127:
        return bytes([len(data)]) + data
    size, rest = b"\x7f", len(data) - 127
    while rest >= 128:
        size, rest = size + bytes([rest % 128 + 128]), rest // 128
    return size + bytes([rest]) + data


def header_block(headers: Headers) -> bytes:
    """Literals that enter no table: no state to keep, and any bytes can stand in a value."""
    return b"".join(b"\0" + _literal(name) + _literal(value) for name, value in headers)


def grpc_message(message: bytes, flag: int = 0, length: int | None = None) -> bytes:
    """Length-prefixed, as it stands in DATA; flag and length can be made to lie."""
    return bytes([flag]) + struct.pack(">I", len(message) if length is None else length) + message


class Call:
    """One RPC; the test's coroutine answers it with whatever frames it likes."""

    def __init__(self, connection: "Connection", stream: int, name: str, headers: dict[bytes, bytes]) -> None:
        self.connection, self.stream, self.name, self.metadata = connection, stream, name, headers
        self.request: Any = None  # the first message
        self.messages: list[Any] = []
        self.gone = asyncio.Event()  # the daemon reset the stream, or the connection ended
        self.finished = asyncio.Event()  # the daemon sends no more
        self.received = b""

    # ---- frames

    def raw(self, data: bytes) -> None:
        """Bytes of the connection, whatever they are."""
        self.connection.write(data)

    def headers(self, *more: tuple[str | bytes, str | bytes], status: str = "200", kind: str = "application/grpc", end: bool = False) -> None:
        block = header_block([(":status", status), ("content-type", kind), *more])
        self.raw(frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), self.stream, block))

    async def data(self, data: bytes, end: bool = False) -> None:
        """Within the daemon's windows, so that only what a test means to break is broken."""
        while data:
            count = await self.connection.room(self.stream, min(len(data), 16384))
            if not count:
                return
            piece, data = data[:count], data[count:]
            self.raw(frame(DATA, END_STREAM if end and not data else 0, self.stream, piece))

    async def message(self, message: bytes, flag: int = 0, length: int | None = None, end: bool = False) -> None:
        await self.data(grpc_message(message, flag, length), end)

    def trailers(self, status: str | bytes | None = "0", *more: tuple[str | bytes, str | bytes]) -> None:
        headers: Headers = [("grpc-status", status)] if status is not None else []
        self.raw(frame(HEADERS, END_HEADERS | END_STREAM, self.stream, header_block([*headers, *more])))

    def trailers_only(self, status: str | bytes | None, *more: tuple[str | bytes, str | bytes]) -> None:
        self.headers(*([("grpc-status", status)] if status is not None else []), *more, end=True)

    def reset(self, code: int) -> None:
        self.raw(frame(RST_STREAM, 0, self.stream, struct.pack(">I", code)))

    async def answer(self, message: bytes) -> None:
        """As a good policy does."""
        self.headers()
        await self.message(message)
        self.trailers()

    # ---- what came

    def take(self, data: bytes) -> None:
        self.received += data
        while len(self.received) >= 5:
            (length,) = struct.unpack(">I", self.received[1:5])
            if len(self.received) < 5 + length:
                return
            message = input_class(self.name).FromString(self.received[5 : 5 + length])
            self.received = self.received[5 + length :]
            self.messages.append(message)
            if self.request is None:
                self.request = message
                self.connection.policy.begin(self)


class Connection(asyncio.Protocol):
    """One connection of the daemon: its links each make one."""

    def __init__(self, policy: "RawPolicy") -> None:
        self.policy = policy
        self.calls: dict[int, Call] = {}
        self.decoder = hpack.Decoder()
        self.buffer = b""
        self.greeted = False
        self.window = 65535
        self.initial_window = 65535
        self.windows: dict[int, int] = {}
        self.moved = asyncio.Event()
        self.block, self.block_stream, self.block_flags = b"", 0, 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.policy.connections.add(self)
        self.write(frame(SETTINGS, 0, 0) + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 24)))

    def connection_lost(self, _error: Exception | None) -> None:
        self.policy.connections.discard(self)
        for call in list(self.calls.values()):
            self.over(call.stream)
        self.moved.set()

    def write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)

    async def room(self, stream: int, wanted: int) -> int:
        """As many bytes of DATA as may be sent now; 0: the stream is gone."""
        while True:
            count = min(wanted, self.window, self.windows.get(stream, 0))
            if stream not in self.windows:
                return 0
            if count > 0:
                self.window -= count
                self.windows[stream] -= count
                return count
            self.moved.clear()
            await self.moved.wait()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.greeted:
            if len(self.buffer) < len(PREFACE):
                return
            assert self.buffer.startswith(PREFACE), self.buffer[:100]
            self.buffer, self.greeted = self.buffer[len(PREFACE) :], True
        while len(self.buffer) >= 9:
            length = int.from_bytes(self.buffer[:3], "big")
            if len(self.buffer) < 9 + length:
                return
            kind, flags = self.buffer[3], self.buffer[4]
            stream = int.from_bytes(self.buffer[5:9], "big") & 0x7FFFFFFF
            payload, self.buffer = self.buffer[9 : 9 + length], self.buffer[9 + length :]
            self.take(kind, flags, stream, payload)

    def take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == SETTINGS and not flags & ACK:
            for at in range(0, len(payload), 6):
                key, value = struct.unpack(">HI", payload[at : at + 6])
                if key == INITIAL_WINDOW_SIZE:  # of the streams that live, too (RFC 9113 section 6.9.2)
                    for live in self.windows:
                        self.windows[live] += value - self.initial_window
                    self.initial_window = value
                    self.moved.set()
            self.write(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self.write(frame(PING, ACK, 0, payload))
        elif kind == WINDOW_UPDATE:
            (more,) = struct.unpack(">I", payload)
            if stream == 0:
                self.window += more
            elif stream in self.windows:
                self.windows[stream] += more
            self.moved.set()
        elif kind == RST_STREAM:
            self.over(stream)
        elif kind in (HEADERS, CONTINUATION):
            self.take_block(kind, flags, stream, payload)
        elif kind == DATA:
            self.take_data(flags, stream, payload)

    def take_block(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == HEADERS:
            if flags & PADDED:
                payload = payload[1 : len(payload) - payload[0]]
            self.block = payload[5:] if flags & HAS_PRIORITY else payload
            self.block_flags = flags
        else:
            self.block += payload
        if flags & END_HEADERS:
            headers = {bytes(name): bytes(value) for name, value in self.decoder.decode(self.block, raw=True)}
            service, _, name = headers[b":path"].decode().lstrip("/").partition("/")
            assert service == SERVICE.full_name and name in METHODS, headers
            self.calls[stream] = Call(self, stream, name, headers)
            self.windows[stream] = self.initial_window

    def take_data(self, flags: int, stream: int, payload: bytes) -> None:
        call = self.calls.get(stream)
        if flags & PADDED:
            payload = payload[1 : len(payload) - payload[0]]
        if payload and not self.policy.deaf:
            update = struct.pack(">I", len(payload))
            self.write(frame(WINDOW_UPDATE, 0, 0, update) + frame(WINDOW_UPDATE, 0, stream, update))
        if call:
            call.take(payload)
            if flags & END_STREAM:
                call.finished.set()

    def over(self, stream: int) -> None:
        self.windows.pop(stream, None)
        if call := self.calls.pop(stream, None):
            call.gone.set()
            call.finished.set()
        self.moved.set()


Answerer = Callable[[Call], Awaitable[None]]


@dataclass
class Seen:
    """One RPC as the policy saw it."""

    name: str
    request: Any
    connection: Connection = field(repr=False)


class RawPolicy:
    """Serves on `target` ("unix:/path" or "127.0.0.1:0"); every RPC is answered by the coroutine `answer(call)`."""

    def __init__(self, target: str, answer: Answerer) -> None:
        self.target = target
        self.answer = answer
        self.connections: set[Connection] = set()
        self.seen: list[Seen] = []
        self.errors: list[BaseException] = []  # of our own coroutines: a test that lied to itself
        self.board = Board()
        self.deaf = False  # gives no window back
        self._tasks: set[asyncio.Task] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="raw policy", daemon=True)
        self._server: Any = None

    def run(self, work: Awaitable[Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    def start(self) -> "RawPolicy":
        if not self._thread.is_alive():
            self._thread.start()
        self.run(self._start())
        return self

    async def _start(self) -> None:
        make = lambda: Connection(self)  # noqa: E731
        if self.target.startswith("unix:"):
            self._server = await self._loop.create_unix_server(make, self.target[len("unix:") :])
        else:
            host, _, port = self.target.rpartition(":")
            self._server = await self._loop.create_server(make, host, int(port))
            self.target = f"{host}:{self._server.sockets[0].getsockname()[1]}"

    def stop(self) -> None:
        """For good."""
        self.run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()
        assert not self.errors, self.errors

    async def _stop(self) -> None:
        self._server.close()
        for connection in list(self.connections):
            connection.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def drop(self) -> None:
        """Resets every connection of the daemon's links; new ones are welcome."""

        async def abort() -> None:
            for connection in list(self.connections):
                connection.transport.abort()

        self.run(abort())

    def begin(self, call: Call) -> None:
        with self.board:
            self.seen.append(Seen(call.name, call.request, call.connection))
        task = self._loop.create_task(self._serve(call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, call: Call) -> None:
        try:
            await self.answer(call)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self.errors.append(error)
        finally:
            call.connection.over(call.stream)

    def requests(self, name: str, where: Callable[[Any], bool] = lambda _: True) -> list[Any]:
        with self.board.look:
            return [seen.request for seen in self.seen if seen.name == name and where(seen.request)]

    def wait_for(self, name: str, where: Callable[[Any], bool] = lambda _: True) -> Any:
        def found() -> list[Any]:
            return [seen.request for seen in self.seen if seen.name == name and where(seen.request)][:1]

        return self.board.wait(found, f"{name} asked")[0]

    def __enter__(self) -> "RawPolicy":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
