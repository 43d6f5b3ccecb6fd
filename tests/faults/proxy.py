"""A fault proxy between parleyd and its policy: both ends are Unix sockets or loopback TCP, and everything that a network, a
load balancer or a sick policy can do to the bytes between them is a property that the test sets."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
import threading
from dataclasses import dataclass
from typing import Any, Awaitable

from harness.wait import PATIENCE_S, Board

UP, DOWN = "up", "down"  # towards the policy, towards the daemon


@dataclass
class Faults:
    """What happens to the bytes from now on; the default is nothing."""

    hang: bool = False  # connections are taken, and nothing is ever said on them
    drop: bool = False  # bytes are read and lost: half-open, for as long as it is set
    hold: bool = False  # bytes wait, and go on when it is unset
    trickle: bool = False  # one byte a write
    garbage: bool = False  # random bytes of the same number towards the daemon
    cut_up: int | None = None  # a connection is reset once so many bytes have gone up in it
    cut_down: int | None = None


class _Pipe:
    """One connection of the daemon, with its own one to the policy."""

    def __init__(self, proxy: "Proxy", near: "Side", far: "Side") -> None:
        self.proxy, self.near, self.far = proxy, near, far
        self.passed = {UP: 0, DOWN: 0}
        self.deaf = False  # half-open for good: bytes are read and lost, whatever happens to others
        self.boundary = asyncio.Event()

    def reset(self) -> None:
        for side in (self.near, self.far):
            side.reset()


class Side:
    """A socket with its streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def reset(self) -> None:
        """With RST where there is one, at once in any case."""
        sock = self.writer.get_extra_info("socket")
        if sock is not None and sock.family == socket.AF_INET:
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            except OSError:
                pass
        self.writer.transport.abort()


class Proxy:
    """Listens at `target` and forwards to `policy`; targets are "unix:/path" or "127.0.0.1:port" (0: a free one)."""

    def __init__(self, target: str, policy: str) -> None:
        self.target, self.policy = target, policy
        self.faults = Faults()
        self.board = Board()
        self.accepted = 0
        self.random = random.Random(2)
        self.history: list[dict[str, int]] = []  # bytes each way of the connections that ended
        self._pipes: set[_Pipe] = set()
        self._silent: set[Side] = set()
        self._tasks: set[asyncio.Task] = set()
        self._server: Any = None
        self._released = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    # ---- life

    def _run(self, work: Awaitable[Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    def __enter__(self) -> "Proxy":
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    async def _listen(self) -> None:
        if self.target.startswith("unix:"):
            path = self.target[len("unix:") :]
            if os.path.exists(path):
                os.unlink(path)
            self._server = await asyncio.start_unix_server(self._accept, path)
        else:
            host, _, port = self.target.rpartition(":")
            self._server = await asyncio.start_server(self._accept, host, int(port))
            self.target = f"{host}:{self._server.sockets[0].getsockname()[1]}"

    async def _close(self) -> None:
        if self._server:
            self._server.close()
            self._server = None
            if self.target.startswith("unix:"):
                os.unlink(self.target[len("unix:") :])

    async def _end(self) -> None:
        await self._close()
        self._abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _abort(self) -> None:
        for pipe in list(self._pipes):
            pipe.reset()
        for side in list(self._silent):
            side.reset()

    # ---- what the test does

    def set(self, **faults: Any) -> None:
        """These faults and no others, from now on, for connections that live and that come."""

        async def change() -> None:
            self.faults = Faults(**faults)
            self._released.set()
            self._released = asyncio.Event()

        self._run(change())

    def refuse(self) -> None:
        """Nobody listens, and what was connected is reset."""

        async def close() -> None:
            await self._close()
            self._abort()

        self._run(close())

    def listen(self) -> None:
        """Again at the same place."""
        self._run(self._listen())

    def reset(self) -> None:
        """All connections, as by a policy that was restarted; new ones are welcome."""

        async def abort() -> None:
            self._abort()

        self._run(abort())

    def deafen(self) -> None:
        """The connections that live are half-open from now on; new ones are welcome."""

        async def mark() -> None:
            for pipe in self._pipes:
                pipe.deaf = True

        self._run(mark())

    def inject(self, data: bytes) -> None:
        """These bytes towards the daemon, on every connection, between two HTTP/2 frames if the policy is quiet."""

        async def write() -> None:
            for pipe in self._pipes:
                pipe.near.writer.write(data)

        self._run(write())

    @property
    def alive(self) -> int:
        return len(self._pipes)

    # ---- the bytes

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        with self.board:
            self.accepted += 1
        near = Side(reader, writer)
        try:
            if self.faults.hang:
                self._silent.add(near)
                await self._while(lambda: self.faults.hang)
                self._silent.discard(near)
            await self._serve(near)
        except (OSError, asyncio.CancelledError):
            near.reset()
        finally:
            self._tasks.discard(task)

    async def _while(self, fault: Any) -> None:
        while fault():
            await self._released.wait()

    async def _serve(self, near: Side) -> None:
        if self.policy.startswith("unix:"):
            far = Side(*await asyncio.open_unix_connection(self.policy[len("unix:") :]))
        else:
            host, _, port = self.policy.rpartition(":")
            far = Side(*await asyncio.open_connection(host, int(port)))
        pipe = _Pipe(self, near, far)
        self._pipes.add(pipe)
        ways = [asyncio.ensure_future(self._carry(pipe, UP, near, far)), asyncio.ensure_future(self._carry(pipe, DOWN, far, near))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._pipes.discard(pipe)
            pipe.reset()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self.history.append(pipe.passed)

    async def _carry(self, pipe: _Pipe, way: str, source: Side, sink: Side) -> None:
        while data := await source.reader.read(1 << 16):
            await self._while(lambda: self.faults.hold)
            faults = self.faults
            if faults.drop or pipe.deaf:
                continue
            if faults.garbage and way == DOWN:
                data = self.random.randbytes(len(data))
            limit = faults.cut_up if way == UP else faults.cut_down
            if limit is not None:
                data = data[: max(0, limit - pipe.passed[way])]
            step = 1 if faults.trickle else len(data) or 1
            for at in range(0, len(data), step):
                sink.writer.write(data[at : at + step])
                await sink.writer.drain()
                if faults.trickle:
                    await asyncio.sleep(0)  # so that bytes are bytes, and not one segment
            pipe.passed[way] += len(data)
            if limit is not None and pipe.passed[way] >= limit:
                # What was written is to arrive, and the reset behind it.
                await asyncio.sleep(0)
                return
