"""Channels whose bytes come to the policy: one gRPC stream each, seen as something to read and write."""

from __future__ import annotations

import asyncio
import collections
import logging
from dataclasses import dataclass
from typing import AsyncIterator, Callable, Deque, Dict, Optional, Union

import grpc.aio

from parley._wire import channel_pb2
from parley.context import Context

log = logging.getLogger("parley")

# What costs least, here and in the daemon: half of what 32 KiB do. gRPC opens its windows in steps of so much; larger
# messages wait for several.
WRITE_BYTES = 64 * 1024
# How far ahead of the handler we read; beyond it HTTP/2 and then the SSH window make the client wait.
AHEAD_BYTES = 256 * 1024
AHEAD_EVENTS = 64


class ChannelClosed(ConnectionError):
    """The channel is gone: the client closed it, or its connection or stream broke."""


@dataclass(frozen=True)
class Data:
    """Bytes from the client; `extended_type` is RFC 4254 section 5.2's, 0 for ordinary data."""

    payload: bytes
    extended_type: int = 0


@dataclass(frozen=True)
class Eof:
    """The client sends no more data; it still reads."""


@dataclass(frozen=True)
class WindowChange:
    """The client's terminal has a new size."""

    columns: int
    rows: int
    width_px: int = 0
    height_px: int = 0


@dataclass(frozen=True)
class Signal:
    """A signal for the program, "INT" without SIG (RFC 4254 section 6.9)."""

    name: str


@dataclass(frozen=True)
class Break:
    """RFC 4335. Set `Session.on_break` to answer it; otherwise the client hears that it was not handled."""

    length_ms: int


Event = Union[Data, Eof, WindowChange, Signal, Break]


class Channel:
    """One channel: read with `async for data in c` or `await c.read()`, write with `await c.write(...)`.

    A write returns when the bytes have room on their way to the client, so a slow client slows the policy down and
    nothing piles up. If the client goes away, writes raise `ChannelClosed`, and a handler that does neither is
    cancelled.
    """

    def __init__(self, rpc, opened: channel_pb2.ChannelOpened) -> None:
        self._rpc = rpc
        self._opened = opened
        # The more channels a connection has, the less each may send at once; 0: the daemon does not say.
        self._write_bytes = min(WRITE_BYTES, opened.max_payload_bytes or WRITE_BYTES)
        self._events: Deque[Event] = collections.deque()
        self._ahead_bytes = 0
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._writing = asyncio.Lock()
        self._at_eof = False
        self._closed: Optional[str] = None
        self.ctx = Context(opened)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.kind}, {self.ctx!r})"

    # ---- what was opened

    @property
    def kind(self) -> str:
        """ "session", "direct_tcpip", "direct_streamlocal", "tun", "tap", "forwarded", "opened_by_policy", "recording"."""
        return self._opened.WhichOneof("kind")

    @property
    def details(self):
        """The message that belongs to the kind: for "direct_tcpip" it has `dest_host`, `dest_port`, ..."""
        return getattr(self._opened, self.kind)

    @property
    def user(self) -> str:
        return self.ctx.user

    # ---- reading

    async def read(self) -> bytes:
        """The next bytes; b"" when the client has sent its last. Raises ChannelClosed if the channel broke."""
        while not self._at_eof:
            event = await self._next()
            if event is None or isinstance(event, Eof):
                return b""
            if isinstance(event, Data) and event.extended_type == 0:
                return event.payload
        return b""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._all_data()

    async def _all_data(self) -> AsyncIterator[bytes]:
        while True:
            data = await self.read()
            if not data:
                return
            yield data

    async def events(self) -> AsyncIterator[Event]:
        """Everything in the order it came, until the channel closes: Data, Eof, WindowChange, Signal, Break."""
        while True:
            event = await self._next()
            if event is None:
                return
            yield event

    async def _next(self) -> Optional[Event]:
        while not self._events:
            if self._closed:
                raise ChannelClosed(self._closed)
            if self._closed is not None:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        event = self._events.popleft()
        if isinstance(event, Data):
            self._ahead_bytes -= len(event.payload)
        elif isinstance(event, Eof):
            self._at_eof = True
        if self._ahead_bytes < AHEAD_BYTES and len(self._events) < AHEAD_EVENTS:
            self._room.set()
        return event

    # ---- writing

    async def write(
        self, data: Union[bytes, bytearray, memoryview, str], extended_type: int = 0
    ) -> None:
        """Send bytes to the client (text goes as UTF-8). Returns when they have room on their way."""
        view = memoryview(data.encode() if isinstance(data, str) else data).cast("B")
        for start in range(0, len(view), self._write_bytes):
            piece = bytes(view[start : start + self._write_bytes])
            await self._send(
                data=channel_pb2.ChannelData(payload=piece, extended_type=extended_type)
            )

    async def write_eof(self) -> None:
        """We send no more data; the client may go on."""
        await self._send(eof=channel_pb2.ChannelEof())

    async def _send(self, **action) -> None:
        async with self._writing:
            if self._closed is not None:
                raise ChannelClosed(self._closed or "the client closed the channel")
            try:
                await self._rpc.write(channel_pb2.ChannelAction(**action))
            except Exception as error:  # gRPC has several for a stream that has ended
                raise ChannelClosed("the stream to the daemon has ended") from error

    # ---- inside: from gRPC to the queue

    async def _pump(self) -> None:
        """Reads ahead a little, so that signals and the end are noticed while the handler does something else."""
        why = "the stream to the daemon has ended"
        try:
            while True:
                await self._room.wait()
                message = await self._rpc.read()
                if message is grpc.aio.EOF:
                    break
                if message.WhichOneof("event") == "closed":
                    why = message.closed.error
                    break
                await self._take(message)
        except ChannelClosed:
            pass
        except Exception:
            log.debug("%r: reading failed", self, exc_info=True)
        finally:
            self._closed = why
            self._arrived.set()

    async def _take(self, message: channel_pb2.ChannelEvent) -> None:
        what = message.WhichOneof("event")
        if what == "data":
            self._ahead_bytes += len(message.data.payload)
            self._queue(Data(message.data.payload, message.data.extended_type))
        elif what == "eof":
            self._queue(Eof())

    def _queue(self, event: Event) -> None:
        if isinstance(event, WindowChange) and self._events:
            if isinstance(self._events[-1], WindowChange):
                self._events.pop()  # only the last size matters
        self._events.append(event)
        if self._ahead_bytes >= AHEAD_BYTES or len(self._events) >= AHEAD_EVENTS:
            self._room.clear()
        self._arrived.set()


class Session(Channel):
    """A session: a shell, a command or a subsystem, with or without a terminal.

    Signals, window changes and breaks come in order through `events()`; to hear of them at once, whatever the handler
    is doing, set `on_signal`, `on_window_change` or `on_break` (plain functions; the last returns whether it handled
    the break).
    """

    def __init__(self, rpc, opened: channel_pb2.ChannelOpened) -> None:
        super().__init__(rpc, opened)
        start = opened.session
        self.pty: Optional[channel_pb2.Pty] = start.pty if start.HasField("pty") else None
        """`pty.term`, `pty.size`, `pty.modes`; None without a terminal."""
        self.size: Optional[WindowChange] = _size(start.pty.size) if self.pty else None
        """The terminal's size now."""
        self.environment: Dict[str, str] = {
            _text(variable.name): _text(variable.value) for variable in start.environment
        }
        """What the client sent and the policy allowed; undecodable bytes are kept as os.environ keeps them."""
        self.on_signal: Optional[Callable[[Signal], object]] = None
        self.on_window_change: Optional[Callable[[WindowChange], object]] = None
        self.on_break: Optional[Callable[[Break], bool]] = None
        self._outcome: Optional[dict] = None

    @property
    def start(self) -> channel_pb2.SessionStart:
        """The whole message: X11, agent, original command."""
        return self._opened.session

    @property
    def shell(self) -> bool:
        return self.start.WhichOneof("program") == "shell"

    @property
    def command(self) -> Optional[bytes]:
        """The command to run; None for a shell or a subsystem."""
        return self.start.exec.command if self.start.WhichOneof("program") == "exec" else None

    @property
    def subsystem(self) -> Optional[bytes]:
        """The subsystem's name; None for a shell or a command."""
        is_subsystem = self.start.WhichOneof("program") == "subsystem"
        return self.start.subsystem.name if is_subsystem else None

    async def write_stderr(self, data: Union[bytes, bytearray, memoryview, str]) -> None:
        await self.write(data, extended_type=1)

    async def set_xon_xoff(self, can_do: bool) -> None:
        """May the client do flow control by itself (RFC 4254 section 6.8)?"""
        await self._send(client_flow_control=channel_pb2.ClientFlowControl(can_do=can_do))

    def exit(self, status: int = 0) -> None:
        """End with this status; it is sent when the handler returns, after all that was written."""
        self._outcome = {"exit_status": channel_pb2.ExitStatus(status=status)}

    def exit_signal(
        self, name: str, core_dumped: bool = False, message: str = "", language: str = ""
    ) -> None:
        """End as if killed by this signal ("TERM", without SIG); sent when the handler returns."""
        self._outcome = {
            "exit_signal": channel_pb2.ExitSignal(
                name=name, core_dumped=core_dumped, message=message, language=language
            )
        }

    async def _finish(self, returned) -> None:
        if self._outcome is None:
            self.exit(0 if returned is None else returned)
        await self._send(**self._outcome)

    async def _take(self, message: channel_pb2.ChannelEvent) -> None:
        what = message.WhichOneof("event")
        if what == "window_change":
            self.size = _size(message.window_change)
            self._queue(self.size)
            self._call(self.on_window_change, self.size)
        elif what == "signal":
            signal = Signal(message.signal.name)
            self._queue(signal)
            self._call(self.on_signal, signal)
        elif what == "break_request":
            request = message.break_request
            event = Break(request.length_ms)
            self._queue(event)
            handled = self._call(self.on_break, event) is True
            await self._send(break_answer=channel_pb2.BreakAnswer(id=request.id, handled=handled))
        else:
            await super()._take(message)

    def _call(self, callback: Optional[Callable], event: Event):
        if callback is None:
            return None
        try:
            return callback(event)
        except Exception:
            log.exception("%r: %s callback failed", self, type(event).__name__)
            return None


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _size(size: channel_pb2.WindowSize) -> WindowChange:
    return WindowChange(size.columns, size.rows, size.width_px, size.height_px)
