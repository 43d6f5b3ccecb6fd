"""A policy scripted by the test: each handler is a function or a ready answer, everything asked is written down."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Awaitable, Callable

import grpc
import grpc.aio

from .contract import METHODS, SERVICE, input_class, pb
from .stream import ChannelStream
from .wait import PATIENCE_S, Board


class Status(Exception):
    """Raised or set as a handler: ends the RPC with this status."""

    def __init__(self, code: grpc.StatusCode, details: str = "") -> None:
        super().__init__(code, details)
        self.code, self.details = code, details


async def hang(_request: Any, _context: Any) -> None:
    """A handler that never answers; it ends when the daemon cancels it."""
    await asyncio.Event().wait()


class Gate:
    """Holds handlers back until the test opens it: `await gate.passed()` inside, `gate.open()` outside."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._event = asyncio.Event()

    async def passed(self) -> None:
        await self._event.wait()

    def open(self) -> None:
        self._loop.call_soon_threadsafe(self._event.set)


class _LoopThread:
    """One event loop for all policies of the process: grpc.aio is at its best with a single loop."""

    _started: "_LoopThread | None" = None

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self._run, name="policy", daemon=True).start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    @classmethod
    def get(cls) -> "_LoopThread":
        if cls._started is None:
            cls._started = cls()
        return cls._started

    def run(self, work: Awaitable[Any], timeout: float = PATIENCE_S) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout)


@dataclass
class Call:
    """One RPC as the policy saw it."""

    name: str
    request: Any
    metadata: dict[str, Any]
    at: float = field(default_factory=time.monotonic)
    deadline_s: float | None = None
    end: str = ""  # "", "answered", "status" or "cancelled"


class Handlers:
    """`policy.on.ExecRequested = function(request, context)`, a coroutine function, a message, bytes or a Status."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in METHODS:
            raise AttributeError(f"the contract has no RPC {name}")
        super().__setattr__(name, value)

    def get(self, name: str) -> Any:
        return self.__dict__.get(name)


class Policy(grpc.GenericRpcHandler):
    """A gRPC server at `target`; handlers that are unset answer UNIMPLEMENTED (but reports are taken)."""

    def __init__(
        self, target: str, options: tuple[tuple[str, Any], ...] = (), credentials: grpc.ServerCredentials | None = None
    ) -> None:
        self.target = target
        self._credentials = credentials  # None: plaintext
        self.options = (("grpc.so_reuseport", 0), ("grpc.max_send_message_length", -1), *options)
        self.on = Handlers()
        self.calls: list[Call] = []
        self.streams: list[ChannelStream] = []
        self.accept_streams = True  # False: as a policy that hangs before it serves one
        self.board = Board()
        # A report that is UNIMPLEMENTED is not sent again for a while, and tests want to see each.
        self.on.ConnectionLost = self.on.DebugMsgReceived = pb.Ack()
        self._server: grpc.aio.Server | None = None
        self._thread = _LoopThread.get()

    # ---- life

    def start(self) -> "Policy":
        self._thread.run(self._start())
        return self

    async def _start(self) -> None:
        self._server = grpc.aio.server(handlers=(self,), options=self.options)
        if self._credentials:
            port = self._server.add_secure_port(self.target, self._credentials)
        else:
            port = self._server.add_insecure_port(self.target)
        if not port:
            raise RuntimeError(f"cannot serve on {self.target}")
        if self.target.endswith(":0"):
            self.target = f"{self.target[:-2]}:{port}"
        await self._server.start()

    def stop(self) -> None:
        """As if the process went away: every call in flight ends at once. It may be started again."""
        if self._server:
            self._thread.run(self._server.stop(None))
            self._server = None

    def gate(self) -> Gate:
        async def make() -> Gate:
            return Gate(self._thread.loop)

        return self._thread.run(make())

    def __enter__(self) -> "Policy":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ---- what the test asks

    def requests(self, name: str) -> list[Any]:
        """Requests of this RPC so far, in order."""
        with self.board.look:
            return [call.request for call in self.calls if call.name == name]

    def names(self) -> list[str]:
        """Names of everything asked so far, in order."""
        with self.board.look:
            return [call.name for call in self.calls]

    def wait_for(
        self, name: str, count: int = 1, where: Callable[[Any], bool] = lambda _: True, timeout: float = PATIENCE_S
    ) -> Any:
        """The request of the count-th call of this RPC (that fits `where`), waiting until it came."""

        def found() -> list[Call]:
            fits = [call for call in self.calls if call.name == name and where(call.request)]
            return fits[count - 1 : count]

        return self.board.wait(found, f"{name} asked {count} time(s); asked: {self._asked}", timeout)[0].request

    def wait_end(self, name: str, how: str, count: int = 1) -> None:
        """Until `count` calls of this RPC ended this way."""
        self.board.wait(
            lambda: sum(call.name == name and call.end == how for call in self.calls) >= count, f"{name} {how}"
        )

    def wait_stream(self, index: int = 0, timeout: float = PATIENCE_S) -> ChannelStream:
        """The index-th Channel stream whose first event has come."""
        ready = self.board.wait(
            lambda: self.streams[index : index + 1] if len(self.streams) > index else None,
            f"Channel stream {index}; asked: {self._asked}",
            timeout,
        )
        return ready[0]

    @property
    def _asked(self) -> list[str]:
        return [call.name for call in self.calls]

    # ---- gRPC

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        service, _, name = details.method.lstrip("/").partition("/")
        if service != SERVICE.full_name or name not in METHODS:
            return None
        parse = input_class(name).FromString
        if METHODS[name].client_streaming:

            async def converse(_requests: Any, context: grpc.aio.ServicerContext) -> None:
                await self._converse(name, context)

            return grpc.stream_stream_rpc_method_handler(converse, parse, _pack)

        async def answer(request: Any, context: grpc.aio.ServicerContext) -> Any:
            return await self._answer(name, request, context)

        return grpc.unary_unary_rpc_method_handler(answer, parse, _pack)

    def _note(self, name: str, request: Any, context: grpc.aio.ServicerContext) -> Call:
        call = Call(name, request, dict(context.invocation_metadata() or ()), deadline_s=context.time_remaining())
        with self.board:
            self.calls.append(call)
        return call

    def _ended(self, call: Call, how: str) -> None:
        with self.board:
            call.end = how

    async def _answer(self, name: str, request: Any, context: grpc.aio.ServicerContext) -> Any:
        call = self._note(name, request, context)
        try:
            answer = await self._call(self.on.get(name), request, context)
        except Status as status:
            self._ended(call, "status")
            await context.abort(status.code, status.details)
        except asyncio.CancelledError:
            self._ended(call, "cancelled")
            raise
        self._ended(call, "answered")
        return answer

    async def _converse(self, name: str, context: grpc.aio.ServicerContext) -> None:
        call = self._note(name, None, context)
        stream = ChannelStream(context, self.board)
        handler = self.on.get(name)
        try:
            if handler is not None and name == "Channel":
                await stream.begin(self.accept_streams)
                with self.board:
                    call.request = stream.opened
                    self.streams.append(stream)
            await self._call(handler, stream)
        except Status as status:
            self._ended(call, "status")
            await context.abort(status.code, status.details)
        except asyncio.CancelledError:
            self._ended(call, "cancelled")
            raise
        finally:
            stream.over()
        self._ended(call, "answered")

    @staticmethod
    async def _call(handler: Any, *args: Any) -> Any:
        if handler is None:
            raise Status(grpc.StatusCode.UNIMPLEMENTED, "not written")
        if isinstance(handler, Status):
            raise handler
        if not callable(handler):
            return handler
        result = handler(*args)
        return await result if inspect.isawaitable(result) else result


def _pack(answer: Any) -> bytes:
    """Bytes pass as they are, so that a test can answer anything."""
    return answer if isinstance(answer, bytes) else answer.SerializeToString()
