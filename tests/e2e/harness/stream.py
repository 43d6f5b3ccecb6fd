"""The policy's side of one Channel stream."""

from __future__ import annotations

from typing import Any, Callable

import grpc.aio

from .contract import pb
from .wait import PATIENCE_S, Board

KEEP_BYTES = 1 << 20  # of the input, for assertions; more is only counted


class ChannelStream:
    """Read events and send actions (coroutines, inside the handler); look at what came (any thread)."""

    def __init__(self, context: grpc.aio.ServicerContext, board: Board) -> None:
        self.context = context
        self.board = board
        self.opened: Any = None  # ChannelOpened
        self.events: list[Any] = []  # all but data
        self.input = bytearray()
        self.received = 0
        self.closed: Any = None  # ChannelClosed
        self.ended = False  # the handler returned or was cancelled

    # ---- inside the handler

    async def begin(self, accept: bool = True) -> None:
        """Takes the first event, which must be `opened`; says at once that the stream is served (initial metadata)."""
        if accept:
            await self.context.send_initial_metadata(())
        event = await self.context.read()
        assert event is not grpc.aio.EOF and event.WhichOneof("event") == "opened", event
        self.opened = event.opened

    async def read(self) -> Any:
        """The next event, or None once the daemon's side has ended."""
        event = await self.context.read()
        if event is grpc.aio.EOF:
            return None
        with self.board:
            kind = event.WhichOneof("event")
            if kind == "data":
                self.received += len(event.data.payload)
                if len(self.input) < KEEP_BYTES:
                    self.input += event.data.payload
            else:
                self.events.append(event)
            if kind == "closed":
                self.closed = event.closed
        return event

    async def read_data(self) -> bytes:
        """The next data, b"" at eof or close; other events are only noted."""
        while (event := await self.read()) is not None:
            kind = event.WhichOneof("event")
            if kind == "data":
                return event.data.payload
            if kind in ("eof", "closed"):
                return b""
        return b""

    async def drain(self) -> None:
        """Reads until the daemon has nothing more to say."""
        while await self.read() is not None:
            pass

    async def send(self, action: Any) -> None:
        await self.context.write(action)

    async def write(self, payload: bytes, extended_type: int = 0) -> None:
        """In pieces no larger than the daemon takes."""
        largest = self.opened.max_payload_bytes or 1 << 20
        for at in range(0, len(payload), largest):
            await self.send(pb.ChannelAction(data=pb.ChannelData(payload=payload[at : at + largest], extended_type=extended_type)))

    async def eof(self) -> None:
        await self.send(pb.ChannelAction(eof=pb.ChannelEof()))

    async def exit(self, status: int) -> None:
        await self.send(pb.ChannelAction(exit_status=pb.ExitStatus(status=status)))

    async def exit_signal(self, name: str, message: str = "", core_dumped: bool = False) -> None:
        signal = pb.ExitSignal(name=name, message=message, core_dumped=core_dumped)
        await self.send(pb.ChannelAction(exit_signal=signal))

    def over(self) -> None:
        with self.board:
            self.ended = True

    # ---- outside

    @property
    def session(self) -> Any:
        """SessionStart."""
        return self.opened.session

    def kinds(self) -> list[str]:
        """Names of the events so far, data left out."""
        with self.board.look:
            return [event.WhichOneof("event") for event in self.events]

    def wait(self, fact: Callable[["ChannelStream"], Any], what: str, timeout: float = PATIENCE_S) -> Any:
        return self.board.wait(lambda: fact(self), what, timeout)

    def wait_event(self, kind: str, where: Callable[[Any], bool] = lambda _: True) -> Any:
        """The first event of this kind that fits."""

        def found(stream: "ChannelStream") -> list[Any]:
            values = [getattr(e, kind) for e in stream.events if e.WhichOneof("event") == kind]
            return [value for value in values if where(value)][:1]

        return self.wait(found, f"event {kind} on the stream")[0]

    def wait_input(self, wanted: bytes) -> None:
        """Until these bytes came from the client."""
        self.wait(lambda stream: wanted in stream.input, f"input {wanted!r}")

    def wait_closed(self) -> Any:
        """ChannelClosed, the last event."""
        return self.wait(lambda stream: stream.closed, "closed on the stream")
